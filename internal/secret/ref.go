package secret

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/stella-ops/stella/internal/fault"
)

// MaxBytes bounds a secret; larger inputs are refused.
const MaxBytes = 64 << 10

// Ref names where a secret is: file:PATH, fd:N, cred:NAME (a systemd
// credential), env:NAME or stdin. It is safe to print.
type Ref string

// Schemes describes the accepted forms, for error messages and help.
const Schemes = "file:PATH, fd:N, cred:NAME, env:NAME or stdin"

// Check reports whether r has one of the accepted forms. It opens nothing.
// The text of a malformed reference is not repeated, for it may be a secret
// pasted in the wrong place.
func (r Ref) Check() error {
	scheme, rest, _ := strings.Cut(string(r), ":")
	switch scheme {
	case "stdin":
		if string(r) == "stdin" {
			return nil
		}
	case "file", "env":
		if rest != "" {
			return nil
		}
	case "cred":
		if rest != "" && !strings.Contains(rest, "/") && rest != "." && rest != ".." {
			return nil
		}
	case "fd":
		if n, err := strconv.Atoi(rest); err == nil && n >= 0 {
			return nil
		}
	}
	return fault.Errorf(fault.Config, "not a secret reference (value withheld)").
		Hint("write a reference, never the secret itself: %s", Schemes)
}

// Load reads the secret that r names. One trailing newline (LF or CRLF) is
// removed. A file must be regular, at most MaxBytes, owned by the caller or
// root, and closed to group and others. All errors are of kind Config.
func (r Ref) Load() (Bytes, error) {
	if err := r.Check(); err != nil {
		return Bytes{}, err
	}
	data, err := r.read()
	if err != nil {
		if fault.KindOf(err) != fault.Config {
			err = fault.As(fault.Config, err)
		}
		return Bytes{}, err
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	data = bytes.TrimSuffix(data, []byte("\r"))
	if len(data) == 0 {
		return Bytes{}, fault.Errorf(fault.Config, "secret %s is empty", r)
	}
	return Bytes{data}, nil
}

func (r Ref) read() ([]byte, error) {
	scheme, rest, _ := strings.Cut(string(r), ":")
	switch scheme {
	case "file":
		return readFile(r, rest, true)
	case "cred":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fault.Errorf(fault.Config, "secret %s: CREDENTIALS_DIRECTORY is not set", r).
				Hint("run under systemd with LoadCredential=%s:PATH", rest)
		}
		// The service manager owns the mode of its credential files.
		return readFile(r, filepath.Join(dir, rest), false)
	case "env":
		v, ok := os.LookupEnv(rest)
		if !ok {
			return nil, fault.Errorf(fault.Config, "secret %s: the variable is not set", r)
		}
		return []byte(v), nil
	case "fd":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(n), string(r))
		if f == nil {
			return nil, fault.Errorf(fault.Config, "secret %s: not an open descriptor", r)
		}
		defer f.Close()
		return readBounded(r, f)
	}
	return readBounded(r, os.Stdin)
}

func readFile(r Ref, path string, strict bool) ([]byte, error) {
	// O_NONBLOCK so that a FIFO planted at the path cannot hang us.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", r, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", r, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Errorf(fault.Config, "secret %s: not a regular file", r)
	}
	if strict {
		if err := CheckMode(path, info); err != nil {
			return nil, err
		}
	}
	return readBounded(r, f)
}

// CheckMode refuses a secret file that group or others can access, or that
// belongs to neither the caller nor root.
func CheckMode(path string, info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fault.Errorf(fault.Config, "secret file %q has mode %04o: others can read it", path, perm).
			Hint("chmod 600 %s", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fault.Errorf(fault.Config, "secret file %q belongs to uid %d, not to uid %d or root", path, st.Uid, os.Geteuid())
	}
	return nil
}

func readBounded(r Ref, f io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", r, err)
	}
	if len(data) > MaxBytes {
		return nil, fault.Errorf(fault.Config, "secret %s: larger than %d bytes", r, MaxBytes)
	}
	return data, nil
}
