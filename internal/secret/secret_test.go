package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/stella-ops/stella/internal/fault"
)

func TestNeverPrints(t *testing.T) {
	s := New([]byte("hunter2"))
	type box struct {
		S Bytes
		P *Bytes
	}
	var out []string
	for _, v := range []any{s, &s, box{s, &s}, []Bytes{s}, map[string]Bytes{"k": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10s"} {
			out = append(out, fmt.Sprintf(verb, v))
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		y, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		out = append(out, string(j), string(y), b.String())
	}
	for _, text := range out {
		if strings.Contains(text, "hunter") || strings.Contains(text, "68756e74") || strings.Contains(text, "104 117") {
			t.Errorf("it prints: %s", text)
		}
	}
	if string(s.Reveal()) != "hunter2" || s.Empty() || !(Bytes{}).Empty() {
		t.Error("it does not hold its bytes")
	}
	s.Clear()
	if bytes.ContainsAny(s.Reveal(), "hunter2") {
		t.Error("Clear leaves something")
	}
}

func TestCheck(t *testing.T) {
	for _, ok := range []Ref{"file:/x", "file:x:y", "fd:3", "cred:name", "env:X", "stdin"} {
		if err := ok.Check(); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []Ref{"", "hunter2", "file:", "fd:", "fd:x", "fd:-1", "cred:", "cred:..", "cred:.", "cred:a/b", "cred:/a", "env:", "stdin:", "stdin:x", "FILE:/x", "http://hunter2"} {
		err := bad.Check()
		if fault.KindOf(err) != fault.Config || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func write(t *testing.T, data string, perm os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	for data, want := range map[string]string{"a": "a", "a\n": "a", "a\r\n": "a", "a\n\n": "a\n", " a ": " a ", "\x00\n": "\x00"} {
		got, err := Ref("file:" + write(t, data, 0o600)).Load()
		if err != nil || string(got.Reveal()) != want {
			t.Errorf("%q: %q, %v", data, got.Reveal(), err)
		}
	}
	t.Setenv("STELLA_TEST_SECRET", "v\n")
	if got, err := Ref("env:STELLA_TEST_SECRET").Load(); err != nil || string(got.Reveal()) != "v" {
		t.Errorf("env: %q, %v", got.Reveal(), err)
	}
	path := write(t, "c\n", 0o440) // the service manager's files are group readable
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	if got, err := Ref("cred:s").Load(); err != nil || string(got.Reveal()) != "c" {
		t.Errorf("cred: %q, %v", got.Reveal(), err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("p\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	fd, err := syscall.Dup(int(r.Fd())) // Load owns and closes the descriptor
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if got, err := Ref("fd:" + strconv.Itoa(fd)).Load(); err != nil || string(got.Reveal()) != "p" {
		t.Errorf("fd: %q, %v", got.Reveal(), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	t.Setenv("STELLA_TEST_EMPTY", "")
	for name, ref := range map[string]Ref{
		"group readable": Ref("file:" + write(t, "x", 0o640)),
		"world readable": Ref("file:" + write(t, "x", 0o604)),
		"group writable": Ref("file:" + write(t, "x", 0o620)),
		"empty":          Ref("file:" + write(t, "", 0o600)),
		"newline only":   Ref("file:" + write(t, "\n", 0o600)),
		"too large":      Ref("file:" + write(t, strings.Repeat("x", MaxBytes+1), 0o600)),
		"missing":        Ref("file:" + filepath.Join(dir, "missing")),
		"directory":      Ref("file:" + dir),
		"fifo":           Ref("file:" + fifo),
		"no credentials": "cred:x",
		"not set":        "env:STELLA_TEST_NOT_SET",
		"set to nothing": "env:STELLA_TEST_EMPTY",
		"closed fd":      "fd:987654",
		"no reference":   "hunter2",
	} {
		if _, err := ref.Load(); fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := Ref("file:" + write(t, strings.Repeat("x", MaxBytes), 0o600)).Load(); err != nil || len(got.Reveal()) != MaxBytes {
		t.Errorf("the largest secret: %v", err)
	}
}

// FuzzRef: an accepted reference has a known scheme, a refused one is never
// repeated in the error.
func FuzzRef(f *testing.F) {
	for _, seed := range []string{"file:/x", "fd:3", "cred:a", "env:X", "stdin", "hunter2", "cred:../x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := Ref(text).Check()
		if err != nil {
			if fault.KindOf(err) != fault.Config || len(text) > 16 && strings.Contains(err.Error(), text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		scheme, rest, _ := strings.Cut(text, ":")
		if !strings.Contains("file fd cred env stdin", scheme) || scheme == "cred" && strings.Contains(rest, "/") {
			t.Fatalf("%q accepted", text)
		}
	})
}
