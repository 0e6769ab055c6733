package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stella-ops/stella/internal/notify"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/fakevault"
)

// addAuthCommands adds what scripts about tokens need:
//
//	ca [CLIENT…]                        write ca.pem, server.crt and server.key for loopback, and
//	                                    CLIENT.crt and CLIENT.key for each client
//	register URL ID SCOPES AUDIENCE     make a client of a stella-authority whose bootstrap key is
//	                                    the file bootstrap; its secret goes to the file ID.secret
//	vault                               start a transit engine: VAULT_URL, vault-ca/ca.pem, vault-token,
//	                                    and in it a key "ours"
//
// SCOPES are separated by commas.
func addAuthCommands(cmds map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	cmds["ca"], cmds["register"], cmds["vault"] = cmdCA, cmdRegister, cmdVault
	return cmds
}

func cmdCA(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, true, "ca [CLIENT…]")
	ca, err := testenv.NewCA(ts.MkAbs("."))
	ts.Check(err)
	_, _, err = ca.Issue("server")
	ts.Check(err)
	for _, id := range args {
		_, _, err = ca.IssueClient(id, "urn:stellaops:client:"+id, nil)
		ts.Check(err)
	}
}

func cmdVault(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "vault")
	dir := ts.MkAbs("vault-ca")
	ts.Check(os.Mkdir(dir, 0o700))
	ca, err := testenv.NewCA(dir)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ts.Defer(cancel)
	v, err := fakevault.Start(ctx, ca)
	ts.Check(err)
	ts.Setenv("VAULT_URL", v.URL)
	_, err = v.Admin("POST", "keys/ours", map[string]any{"type": "ecdsa-p256"})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("vault-token"), []byte(v.Token()), 0o600))
}

func cmdRegister(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 4, "register URL ID SCOPES AUDIENCE")
	body, err := json.Marshal(map[string]any{
		"client_id": args[1], "scopes": strings.Split(args[2], ","), "audiences": []string{args[3]}, "tenant": "acme",
		"dpop_bound_access_tokens": !strings.HasPrefix(args[1], "bearer"),
	})
	ts.Check(err)
	req, err := http.NewRequest(http.MethodPost, args[0]+"/internal/clients", bytes.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-stellaops-bootstrap-key", strings.TrimSpace(ts.ReadFile("bootstrap")))
	hc := &http.Client{Timeout: within, Transport: &http.Transport{TLSClientConfig: trust(ts)}}
	resp, err := hc.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	ts.Check(err)
	var made struct {
		Secret string `json:"client_secret"`
	}
	if resp.StatusCode/100 != 2 || json.Unmarshal(answer, &made) != nil || made.Secret == "" {
		ts.Fatalf("registering %s: %s: %.300s", args[1], resp.Status, answer)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".secret"), []byte(made.Secret+"\n"), 0o600))
}

// trust is the CA of the script, if it has one.
func trust(ts *testscript.TestScript) *tls.Config {
	pool := x509.NewCertPool()
	if data, err := os.ReadFile(ts.MkAbs("ca.pem")); err == nil {
		pool.AppendCertsFromPEM(data)
	}
	return &tls.Config{RootCAs: pool}
}

// webroot is a program that serves the files of a folder over plain HTTP on
// loopback: every method, "$URL" in them replaced by its own address. The
// file NAME.head, if there is one, holds a status line and headers for NAME.
func webroot() {
	if err := serveFolder(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "webroot:", err)
		os.Exit(1)
	}
}

func serveFolder(dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + l.Addr().String()
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(dir, filepath.FromSlash(filepath.Clean("/"+r.URL.Path)))
		body, err := os.ReadFile(name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		status := http.StatusOK
		w.Header().Set("Content-Type", "application/json")
		if head, err := os.ReadFile(name + ".head"); err == nil {
			first, rest, _ := strings.Cut(strings.TrimSpace(string(head)), "\n")
			_, _ = fmt.Sscan(first, &status)
			for line := range strings.SplitSeq(rest, "\n") {
				key, value, _ := strings.Cut(line, ":")
				w.Header().Set(key, strings.TrimSpace(value))
			}
		}
		w.WriteHeader(status)
		_, _ = w.Write(bytes.ReplaceAll(body, []byte("$URL"), []byte(url)))
	})}
	if err := notify.Send("READY=1", "X_STELLA_URL="+url); err != nil {
		return err
	}
	return srv.Serve(l)
}
