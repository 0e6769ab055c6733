package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMirrorOpensNoSocket: with --offline verify, status, prune and a sync from
// a folder make no socket at all, the kernel says. Control: a sync from S3 does.
func TestMirrorOpensNoSocket(t *testing.T) {
	s := newMirrorSite(t)
	sockets := func(root string, want int, env string, words ...string) string {
		t.Helper()
		trace := filepath.Join(t.TempDir(), "trace")
		cmd := s.command(t.Context(), root, words[0], s.strace, "-f", "-o", trace, "-e", "trace=socket,connect")
		cmd.Args = append(cmd.Args, words[1:]...)
		cmd.Env = append(cmd.Env, env)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != want {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
		data, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	root := s.copy(t)
	for _, words := range [][]string{{"sync", "--offline"}, {"verify", "--offline"}, {"status", "--offline"}, {"prune", "--offline"}, {"rollback", "--offline"}} {
		if trace := sockets(root, 0, "A=b", words...); strings.Contains(trace, "socket(") {
			t.Errorf("%v: %s", words, trace)
		}
	}
	trace := sockets(root, 5, "A=b", "verify", "--offline", "--remote", "--config", s.elsewhere(t, root))
	if strings.Contains(trace, "socket(") {
		t.Errorf("a place on the network, offline: %s", trace)
	}
	trace = sockets(root, 10, "AWS_ACCESS_KEY_ID=a", "verify", "--remote", "--config", s.elsewhere(t, root))
	if !strings.Contains(trace, "socket(") {
		t.Errorf("control: %s", trace)
	}
}

// elsewhere is a configuration whose source is on the network.
func (s *mirrorSite) elsewhere(t *testing.T, root string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "stella.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(data), "file://")
	j := strings.Index(string(data)[i:], `"`)
	text := string(data)[:i] + "https://127.0.0.1:1/x" + string(data)[i+j:]
	path := filepath.Join(t.TempDir(), "stella.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// snapshot is every name below root, with what would tell a change.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) == "stella.yaml" || path == root {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		out[path] = info.Mode().String() + info.ModTime().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMirrorDryRunsWriteNothing: nor do status and verify. Control: without
// --dry-run a sync does.
func TestMirrorDryRunsWriteNothing(t *testing.T) {
	s := newMirrorSite(t)
	root := s.copy(t)
	before := snapshot(t, root)
	differs := func() bool {
		after := snapshot(t, root)
		for path, was := range before {
			if after[path] != was {
				t.Logf("%s: %s, then %s", path, was, after[path])
				return true
			}
		}
		return len(after) != len(before)
	}
	for _, words := range [][]string{
		{"sync", "--dry-run"}, {"prune", "--dry-run", "--keep", "1", "--grace", "0s"}, {"status"}, {"verify"}, {"verify", "--remote"},
		{"pack", "--dry-run", "--to", filepath.Join(root, "pack")},
	} {
		cmd := s.command(t.Context(), root, words[0])
		cmd.Args = append(cmd.Args, words[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", words, err, out)
		}
		if differs() {
			t.Errorf("%v has written", words)
		}
	}
	if out, err := s.command(t.Context(), root, "sync").CombinedOutput(); err != nil || !differs() {
		t.Errorf("control: %v\n%s", err, out)
	}
}
