package mirror_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/release"
)

// hostileNames are what no member and no key may be called.
func hostileNames() map[string]string {
	return map[string]string{
		"climbs": "mirror/../../x", "climbs at once": "../x", "climbs at the end": "mirror/..", "stays": "mirror/./x", "absolute": "/etc/cron.d/x",
		"a device": "mirror/primary/CON", "a device with an ending": "mirror/primary/nul.json", "a numbered device": "mirror/primary/com1",
		"NUL": "mirror/primary/a\x00b", "backslash": `mirror\primary\x`, "backslashes that climb": `mirror/primary/..\..\x`, "drive": "C:x", "stream": "mirror/primary/a:b",
		"5,000 characters": "mirror/primary/" + strings.Repeat("x", 5000), "5,000 elements": "mirror" + strings.Repeat("/x", 5000), "one long element": "mirror/primary/" + strings.Repeat("x", 201),
		"newline": "mirror/primary/a\nb", "escape": "mirror/primary/\x1b[2J", "tab": "mirror/primary/a\tb", "delete": "mirror/primary/a\x7f", "invalid UTF-8": "mirror/primary/a\xff",
		"right to left": "mirror/primary/a\u202eb", "no letters of ours": "mirror/primary/ä", "wide slash": "mirror/primary/a\u2215b", "space": "mirror/primary/a b", "space at the end": "mirror/primary/a ",
		"dot at the end": "mirror/primary/a.", "hidden": "mirror/primary/.ssh", "option": "mirror/primary/-rf", "wildcard": "mirror/primary/*", "shell": "mirror/primary/$(x)", "quote": `mirror/primary/"`,
		"empty": "", "empty element": "mirror//x", "folder": "mirror/primary/x/", "statement": release.FileStatement, "case clash": "mirror/Primary/big.bin",
		"file and folder": "mirror/primary/bundle.json/x", "case of the index": "mirror/INDEX.json",
	}
}

// TestHostileMembers: a statement that names one of them is refused, though a
// trusted key has signed it.
func TestHostileMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.publish(1)
	w.good(one)
	// with puts one more member to its place, spelled as JSON can spell it.
	with := func(path string, spelled []byte) {
		files := w.publish(2)
		head, list, _ := strings.Cut(string(files[release.FileStatement]), "[\n")
		lines := map[string]string{path: fmt.Sprintf(`{"path":%s,"size":1,"sha256":"%064d"}`, spelled, 1)}
		for line := range strings.SplitSeq(strings.TrimSuffix(list, "\n]}\n"), ",\n") {
			var m release.Member
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			if m.Path != path {
				lines[m.Path] = line
			}
		}
		var sorted []string
		for _, path := range slices.Sorted(maps.Keys(lines)) {
			sorted = append(sorted, lines[path])
		}
		data := []byte(head + "[\n" + strings.Join(sorted, ",\n") + "\n]}\n")
		jws, err := w.keys["k1"].SignDetached(map[string]any{"typ": release.Type, "provider": "default"}, data)
		if err != nil {
			t.Fatal(err)
		}
		w.put(map[string][]byte{release.FileStatement: data, release.FileSignature: []byte(jws)})
	}
	with("mirror/primary/plain.json", []byte(`"mirror/primary/plain.json"`)) // the control: only that file is missing
	if _, err := w.sync(); release.ReasonOf(err) != release.MissingMember {
		t.Errorf("control: %v", err)
	}
	for name, path := range hostileNames() {
		quoted, err := json.Marshal(path)
		if err != nil {
			t.Fatal(err)
		}
		for how, spelled := range map[string][]byte{"escaped": quoted, "bare": []byte(`"` + path + `"`)} {
			with(path, spelled)
			_, err := w.sync()
			switch why := release.ReasonOf(err); {
			case fault.KindOf(err) != fault.Trust, why != release.HostileName && why != release.Format:
				t.Errorf("%s, %s: %v", name, how, err)
			case how == "escaped" && why != release.HostileName:
				t.Errorf("%s, %s: reason %q: %v", name, how, why, err)
			}
			printable(t, name, err)
		}
	}
	w.shows(one)
	w.good(w.publish(2)) // the control: the same without it
}

// printable wants an error that a terminal and a log can show.
func printable(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if text := err.Error(); len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
		t.Errorf("%s: not printable: %.300q", name, text)
	}
}

// bucketXML is a server that lists what it is told to, as S3 does.
type bucketXML struct{ keys []string }

func (b *bucketXML) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("list-type") != "2" {
		serve(w, r, []byte("x"))
		return
	}
	var out strings.Builder
	out.WriteString(`<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>`)
	for _, key := range b.keys {
		fmt.Fprintf(&out, `<Contents><Key>%s</Key><Size>1</Size><ETag>&quot;%s&quot;</ETag><LastModified>2026-03-01T00:00:00Z</LastModified></Contents>`,
			escapeAll("feed/"+key), release.Digest([]byte("x"))[7:39])
	}
	out.WriteString(`</ListBucketResult>`)
	_, _ = w.Write([]byte(xml.Header + out.String()))
}

func escapeAll(s string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&out, "%%%02X", c)
	}
	return out.String()
}

// TestHostileKeys: a listing with one of them is refused, whatever else is in
// it, and nothing is written outside the folder.
func TestHostileKeys(t *testing.T) {
	t.Parallel()
	bucket := &bucketXML{}
	server := httptest.NewServer(bucket)
	t.Cleanup(server.Close)
	above := t.TempDir()
	w := newWorld(t)
	w.m.Dir = filepath.Join(above, "mirrors")
	if err := os.Mkdir(w.m.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.from(place(t, "s3://bucket/feed"), func(ctx context.Context, p objstore.Place) (closer, error) {
		return s3.Open(ctx, p, s3.Options{Endpoint: server.URL, PathStyle: true, Credentials: s3.Anonymous()})
	})
	w.feed.Shape = mirror.Tree
	honest := []string{"mirror/primary/big.bin", "mirror/primary/bundle.json"}
	bucket.keys = honest
	w.good(nil)
	refused := int64(0)
	for name, key := range hostileNames() {
		if name == "case of the index" || name == "empty" { // there is no index; and an empty name is that of a folder
			continue
		}
		bucket.keys = []string{key, "mirror/primary/big.bin", "mirror/primary/bundle.json"}
		slices.Sort(bucket.keys)
		_, err := w.sync()
		if fault.KindOf(err) != fault.Trust || release.ReasonOf(err) != release.HostileName {
			t.Errorf("%s: %v", name, err)
		}
		printable(t, name, err)
		refused++
	}
	bucket.keys = honest
	w.good(nil)
	if st, err := w.m.Status("concelier"); err != nil || len(st.Releases) != 1 || st.Refusals[release.HostileName] == 0 {
		t.Errorf("%v %+v after %d refusals", err, st, refused)
	}
	if entries, err := os.ReadDir(above); err != nil || len(entries) != 1 {
		t.Errorf("beside the mirrors: %v %v", err, entries)
	}
	bucket.keys = append(honest, "mirror/primary/new.json") // the control
	w.good(nil)
}
