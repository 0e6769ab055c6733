package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/release"
)

// reading is what a reader saw in one pass: everything by one opened folder.
type reading struct {
	export string
	digest error // a member that the statement does not name so
	mixed  error // files of two releases
}

// pass reads statement, index, manifests, bundles and signatures of whatever
// dir leads to now. It opens dir once, as docs/formats/release.md tells
// readers to.
func pass(dir string) (reading, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return reading{}, err
	}
	defer root.Close()
	data, err := root.ReadFile(release.FileStatement)
	if err != nil {
		return reading{}, err
	}
	st, err := release.ParseStatement(data)
	if err != nil {
		return reading{digest: err}, nil
	}
	r := reading{export: st.ExportID}
	jws, err := root.ReadFile(release.FileSignature)
	if err != nil {
		return r, err
	}
	if !strings.HasPrefix(string(jws), "eyJ") {
		r.digest = fmt.Errorf("signature is %.20q", jws)
	}
	want := fmt.Sprintf("CVE-2026-%04d", st.Sequence)
	for _, m := range st.Members {
		data, err := root.ReadFile(m.Path)
		if err != nil {
			return r, err
		}
		if got := release.Digest(data); got != "sha256:"+m.SHA256 {
			r.digest = fmt.Errorf("%s of %s is %s", m.Path, st.ExportID, got)
		}
		if _, ok := release.BundleOf(m.Path); ok && !strings.Contains(string(data), want) {
			r.mixed = fmt.Errorf("%s of %s holds %.60q", m.Path, st.ExportID, data)
		}
	}
	return r, nil
}

// watch reads dir over and over until ctx ends.
func watch(ctx context.Context, dir string, passes, bad *atomic.Int64, exports *sync.Map) error {
	for ctx.Err() == nil {
		r, err := pass(dir)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case err != nil || r.digest != nil || r.mixed != nil:
			bad.Add(1)
		default:
			exports.Store(r.export, true)
		}
		passes.Add(1)
	}
	return nil
}

// TestReaders: readers loop over all files during 200 switches and never see
// two releases mixed, nor a digest that fails. Control: over a plain copy in
// place they do.
func TestReaders(t *testing.T) {
	const switches, readers = 200, 4
	w := newWorld(t)
	next := func(i int) map[string][]byte {
		files := w.files(i, "primary", "community")
		statement := w.state(0, files, func(s *release.Statement) {
			s.Sequence, s.ExportID = int64(i), w.at.Add(time.Duration(i)*time.Second).Format("20060102T150405Z")
			s.GeneratedAt, s.ExpiresAt = w.at.Add(time.Duration(i-300)*time.Second), w.at.Add(time.Hour)
		})
		files[release.FileStatement], files[release.FileSignature] = statement, w.sign(statement, "k1")
		return files
	}
	first := next(1)
	w.put(first)
	w.good(first)

	var passes, bad atomic.Int64
	var exports sync.Map
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			if err := watch(ctx, filepath.Join(w.m.Folder("concelier"), "latest"), &passes, &bad, &exports); err != nil {
				t.Error(err)
			}
		})
	}
	for i := 2; i <= switches+1; i++ {
		w.put(next(i))
		if _, err := w.sync(); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 { // as the timer of an operator does
			if _, err := w.m.Prune(t.Context(), "concelier", 60, 0, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	wg.Wait()
	seen := 0
	exports.Range(func(any, any) bool { seen++; return true })
	if bad.Load() != 0 || passes.Load() < switches || seen < 20 {
		t.Errorf("%d of %d passes over %d releases were bad", bad.Load(), passes.Load(), seen)
	}
	t.Logf("%d switches, %d passes by %d readers, %d releases seen, %d bad", switches, passes.Load(), readers, seen, bad.Load())

	t.Run("control: copied in place", func(t *testing.T) {
		dir := t.TempDir()
		copyTo(t, dir, first)
		passes.Store(0)
		bad.Store(0)
		ctx, stop := context.WithCancel(t.Context())
		for range readers {
			wg.Go(func() { _ = watch(ctx, dir, &passes, &bad, &exports) })
		}
		for i := 2; i <= switches+1; i++ {
			copyTo(t, dir, next(i))
		}
		stop()
		wg.Wait()
		if bad.Load() == 0 {
			t.Errorf("%d passes, and none was bad: the reader sees nothing", passes.Load())
		}
		t.Logf("control: %d of %d passes were bad", bad.Load(), passes.Load())
	})
}

// copyTo does what a plain sync does: file by file, under the readers.
func copyTo(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for path, data := range files {
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
