package main

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// addWaitCommands adds what scripts need that watch processes at work. None
// of them waits blindly; each ends as soon as what it waits for has come.
//
//	until N COMMAND ARG…           run it again and again until its exit code is N
//	sees FILE TEXT                 wait until FILE has TEXT
//	ended N PROC                   the PROC that was signalled last ended with exit code N; after 'wait'
//	http STATUS METHOD URL [FORM]  a request that trusts ca.pem; the answer goes to stdout
func addWaitCommands(cmds map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	cmds["until"], cmds["sees"], cmds["ended"], cmds["http"] = cmdUntil, cmdSees, cmdEnded, cmdHTTP
	return cmds
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "until N COMMAND ARG…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := -1
	for end := time.Now().Add(within); time.Now().Before(end); {
		if got = exitCode(ts, args[1:]); got == want {
			return
		}
	}
	ts.Fatalf("%s still ends with exit code %d, want %d", strings.Join(args[1:], " "), got, want)
}

func cmdSees(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "sees FILE TEXT")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var data []byte
	for end := time.Now().Add(within); time.Now().Before(end); <-tick.C {
		if data, _ = os.ReadFile(ts.MkAbs(args[0])); strings.Contains(string(data), args[1]) {
			return
		}
	}
	ts.Fatalf("%s never has %q; it has\n%s", args[0], args[1], data)
}

func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "ended N PROC")
	last := ts.Value(earsKey{}).(*ears).signalled[args[1]]
	if last == nil || last.ProcessState == nil {
		ts.Fatalf("no %s was signalled and then waited for", args[1])
	}
	if got := strconv.Itoa(last.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("%s ended with exit code %s, want %s", args[1], got, args[0])
	}
}

func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3 || len(args) == 4, "http STATUS METHOD URL [FORM]")
	req, err := http.NewRequest(args[1], args[2], strings.NewReader(strings.Join(args[3:], "")))
	ts.Check(err)
	if len(args) == 4 {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	transport := &http.Transport{TLSClientConfig: trust(ts)}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Timeout: within, Transport: transport}).Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	ts.Check(err)
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
	if got := strconv.Itoa(resp.StatusCode); got != args[0] {
		ts.Fatalf("%s %s answers %s, want %s: %.300s", args[1], args[2], resp.Status, args[0], body)
	}
}
