package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// within bounds each wait for a server; nothing sleeps, so it is only reached
// by a server that is broken.
const within = 30 * time.Second

// commands are what scripts have beside the built-in ones:
//
//	exits N COMMAND ARG…    run it; its exit code must be N
//	ready VAR               wait for READY=1; VAR is the URL, VAR_ADMIN the admin URL
//	told TEXT               wait until a server has said TEXT to its service manager
//	sig NAME PROC           send HUP, TERM, INT, USR1 or KILL to the last background PROC
//	jsonq FILE PATH WANT    the value at PATH (a.0.b) of FILE or stdout or stderr is WANT
//	jsonvar VAR FILE PATH   set VAR to that value
//
// A FILE of several JSON lines is a list of them; -1 is the last.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits": cmdExits, "ready": cmdReady, "told": cmdTold, "sig": cmdSig, "jsonq": cmdJSONQ, "jsonvar": cmdJSONVar,
	}
}

func usage(ts *testscript.TestScript, neg bool, ok bool, text string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "exits N COMMAND ARG…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := exitCode(ts, args[1:])
	if got != want {
		ts.Fatalf("%s ended with exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// exitCode runs a command and returns its exit code; -1 for a signal.
func exitCode(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		ts.Fatalf("running %s: %v", args[0], err)
	}
	return exit.ExitCode()
}

type earsKey struct{}

// ears are the service manager of one script.
type ears struct {
	dir, path string
	conn      *net.UnixConn
	signalled map[string]*exec.Cmd // by 'sig', the last of each name
}

func listen() (*ears, error) {
	// A socket path has at most 108 bytes: never below the script's folder.
	dir, err := os.MkdirTemp("", "n")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return &ears{dir, path, conn, map[string]*exec.Cmd{}}, nil
}

func (e *ears) close() {
	e.conn.Close()
	os.RemoveAll(e.dir)
}

// hear waits for a message that contains the line or text and returns it.
func (e *ears) hear(ts *testscript.TestScript, text string) []string {
	ts.Check(e.conn.SetReadDeadline(time.Now().Add(within)))
	buf := make([]byte, 4096)
	for {
		n, err := e.conn.Read(buf)
		if err != nil {
			ts.Fatalf("waiting for %q from a server: %v", text, err)
		}
		if message := string(buf[:n]); strings.Contains(message, text) {
			return strings.Split(message, "\n")
		}
	}
}

func cmdReady(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "ready VAR")
	for _, line := range ts.Value(earsKey{}).(*ears).hear(ts, "READY=1") {
		name, value, _ := strings.Cut(line, "=")
		if middle, ok := strings.CutPrefix(name, "X_STELLA_"); ok {
			suffix := strings.TrimSuffix(strings.TrimSuffix(middle, "URL"), "_")
			ts.Setenv(strings.TrimSuffix(args[0]+"_"+suffix, "_"), value)
		}
	}
}

func cmdTold(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "told TEXT")
	ts.Value(earsKey{}).(*ears).hear(ts, args[0])
}

func cmdSig(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "sig HUP|TERM|INT|USR1|KILL PROC")
	sig, ok := map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "USR1": syscall.SIGUSR1, "KILL": syscall.SIGKILL,
	}[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %q", args[0])
	}
	running := ts.BackgroundCmds()
	for i := len(running) - 1; i >= 0; i-- {
		if filepath.Base(running[i].Path) == args[1] {
			ts.Check(running[i].Process.Signal(sig))
			ts.Value(earsKey{}).(*ears).signalled[args[1]] = running[i]
			return
		}
	}
	ts.Fatalf("no %s runs in the background", args[1])
}

func cmdJSONQ(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: jsonq FILE PATH WANT")
	}
	got, err := lookup(ts.ReadFile(args[0]), args[1])
	ts.Check(err)
	if (got == args[2]) == neg {
		ts.Fatalf("%s at %s is %q; want it to be %q: %v", args[0], args[1], got, args[2], !neg)
	}
}

func cmdJSONVar(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3, "jsonvar VAR FILE PATH")
	got, err := lookup(ts.ReadFile(args[1]), args[2])
	ts.Check(err)
	ts.Setenv(args[0], got)
}

// lookup finds a value by its path and returns a string as it is, anything
// else as compact JSON.
func lookup(text, path string) (string, error) {
	var docs []any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	for {
		var doc any
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", fmt.Errorf("not JSON: %w", err)
		}
		docs = append(docs, doc)
	}
	var at any = docs
	if len(docs) == 1 {
		at = docs[0]
	}
	for step := range strings.SplitSeq(path, ".") {
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[step]
			if !ok {
				return "", fmt.Errorf("no member %q on the way of %s", step, path)
			}
			at = next
		case []any:
			i, err := strconv.Atoi(step)
			if i < 0 {
				i += len(v)
			}
			if err != nil || i < 0 || i >= len(v) {
				return "", fmt.Errorf("no item %q of %d on the way of %s", step, len(v), path)
			}
			at = v[i]
		default:
			return "", fmt.Errorf("nothing below %q on the way of %s", step, path)
		}
	}
	if s, ok := at.(string); ok {
		return s, nil
	}
	data, err := json.Marshal(at)
	return string(data), err
}
