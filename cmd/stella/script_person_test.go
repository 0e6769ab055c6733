package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stella-ops/stella/internal/testenv"
)

// addPersonCommands adds what scripts need in which people act:
//
//	document URL FILE                         post FILE with the bootstrap key of the file bootstrap;
//	                                          the answer goes to stdout
//	decide approve|deny COMPLETE NAME SECRET  open the page COMPLETE (a verification_uri_complete) in a
//	                                          browser of one's own, sign in and decide
func addPersonCommands(cmds map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	cmds["document"], cmds["decide"] = cmdDocument, cmdDecide
	return cmds
}

func cmdDocument(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "document URL FILE")
	req, err := http.NewRequest(http.MethodPost, args[0], strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-stellaops-bootstrap-key", strings.TrimSpace(ts.ReadFile("bootstrap")))
	transport := &http.Transport{TLSClientConfig: trust(ts)}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Timeout: within, Transport: transport}).Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	ts.Check(err)
	if resp.StatusCode/100 != 2 {
		ts.Fatalf("posting %s to %s: %s: %.300s", args[1], args[0], resp.Status, answer)
	}
	_, err = ts.Stdout().Write(bytes.TrimSpace(answer))
	ts.Check(err)
}

func cmdDecide(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 4 && (args[0] == "approve" || args[0] == "deny"), "decide approve|deny COMPLETE NAME SECRET")
	transport := &http.Transport{TLSClientConfig: trust(ts)}
	defer transport.CloseIdleConnections()
	person, err := testenv.NewPerson(&http.Client{Timeout: within, Transport: transport}, args[2], args[3])
	ts.Check(err)
	_, err = person.Decide(context.Background(), args[1], args[0] == "approve")
	ts.Check(err)
}
