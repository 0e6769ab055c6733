package jwkscheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/oauth"
)

// places is a Getter over canned answers.
type places map[string]func(h http.Header) (*oauth.Answer, error)

func (p places) Get(ctx context.Context, url string, h http.Header, _ int64) (*oauth.Answer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if p[url] == nil {
		return nil, fault.Errorf(fault.Transient, "%s: connection refused", url)
	}
	return p[url](h)
}

func serves(status int, body []byte) func(http.Header) (*oauth.Answer, error) {
	return func(http.Header) (*oauth.Answer, error) {
		return &oauth.Answer{Status: status, Body: body, Header: http.Header{
			"Content-Type": {"application/json"}, "Cache-Control": {"public, max-age=300"}, "Etag": {`"v1"`}, "Age": {"10"},
		}}, nil
	}
}

func compareWith(ctx context.Context, g places, points []Point) (*Comparison, error) {
	for i := range points {
		points[i].Getter = g
	}
	return Compare(ctx, points)
}

func TestCompare(t *testing.T) {
	a, b := ecKey(t, "a"), ecKey(t, "b")
	ref := setOf(t, a, b)
	reordered := setOf(t, with(b, "x_extra", 1), a)
	for _, tc := range []struct {
		name  string
		point func(http.Header) (*oauth.Answer, error)
		state State
		kind  fault.Kind
		diff  string
	}{
		{"same", serves(200, ref), Same, fault.None, ""},
		{"other order, extra members", serves(200, reordered), Same, fault.None, ""},
		{"missing key", serves(200, setOf(t, a)), Differs, fault.ChecksFailed, "b missing"},
		{"extra key", serves(200, setOf(t, a, b, ecKey(t, "c"))), Differs, fault.ChecksFailed, "c extra"},
		{"other key", serves(200, setOf(t, a, ecKey(t, "b"))), Differs, fault.ChecksFailed, "b other-key"},
		{"other status", serves(200, setOf(t, a, with(b, "status", "retiring"))), Differs, fault.ChecksFailed, "b other-status"},
		{"key twice", serves(200, setOf(t, a, b, b)), Differs, fault.ChecksFailed, "b duplicate"},
		{"down", nil, Unreachable, fault.Transient, ""},
		{"HTML", serves(200, []byte("<html>")), NotASet, fault.Trust, ""},
		{"no keys", serves(200, []byte("{}")), NotASet, fault.Trust, ""},
		{"403", serves(403, nil), NotASet, fault.Trust, ""},
		{"404", serves(404, nil), Unreachable, fault.Transient, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := places{"https://ref": serves(200, ref), "https://p": tc.point}
			c, err := compareWith(t.Context(), g, []Point{{Name: "authority", URL: "https://ref"}, {Name: "edge", URL: "https://p"}})
			if err != nil {
				t.Fatal(err)
			}
			s := c.Points[1]
			diffs := []string{}
			for _, d := range s.Differences {
				diffs = append(diffs, d.KID+" "+d.Kind)
			}
			if s.State != tc.state || strings.Join(slices.Compact(diffs), ",") != tc.diff || fault.KindOf(c.Err()) != tc.kind {
				t.Errorf("state %v, differences %v, verdict %v", s.State, diffs, c.Err())
			}
			if err := c.Err(); err != nil && !strings.Contains(err.Error(), `"edge"`) {
				t.Errorf("the point is not named: %v", err)
			}
		})
	}
}

func TestCompareVerdictOrder(t *testing.T) {
	ref, other := setOf(t, ecKey(t, "a")), setOf(t, ecKey(t, "b"))
	g := places{"https://ref": serves(200, ref), "https://other": serves(200, other), "https://html": serves(200, []byte("x")), "https://gone": serves(404, nil)}
	point := func(url string) Point { return Point{Name: url, URL: url} }
	verdict := func(points ...Point) fault.Kind {
		c, err := compareWith(t.Context(), g, append([]Point{point("https://ref")}, points...))
		if err != nil {
			t.Fatal(err)
		}
		return fault.KindOf(c.Err())
	}
	down, differs, html := point("https://down"), point("https://other"), point("https://html")
	if verdict(down, differs, html) != fault.Trust || verdict(down, differs) != fault.ChecksFailed || verdict(down) != fault.Transient {
		t.Error("the worst state does not win")
	}
	absent := point("https://gone")
	absent.Optional = true
	if verdict(absent) != fault.None {
		t.Error("an optional point that is absent fails the check")
	}
	g["https://ref"] = nil
	if verdict(differs) != fault.Transient {
		t.Error("without a reference, nothing differs")
	}
}

func TestCompareFile(t *testing.T) {
	ref := setOf(t, ecKey(t, "a"))
	path := filepath.Join(t.TempDir(), "copy.json")
	if err := os.WriteFile(path, ref, 0o644); err != nil {
		t.Fatal(err)
	}
	g := places{"https://ref": serves(200, ref)}
	c, err := compareWith(t.Context(), g, []Point{{Name: "authority", URL: "https://ref"}, {Name: "airgap", URL: "file://" + path}, {Name: "usb", URL: path}})
	if err != nil || c.Err() != nil {
		t.Errorf("%v, %v", err, c.Err())
	}
	if _, err := compareWith(t.Context(), g, []Point{{Name: "bad", URL: "file://host/x"}}); fault.KindOf(err) != fault.Input {
		t.Errorf("file URL with a host: %v", err)
	}
	c, err = compareWith(t.Context(), g, []Point{{Name: "authority", URL: "https://ref"}, {Name: "missing", URL: path + ".no"}})
	if err != nil || fault.KindOf(c.Err()) != fault.Transient {
		t.Errorf("missing file: %v, %v", err, c.Err())
	}
}

func TestCompareCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := compareWith(ctx, places{}, []Point{{Name: "a", URL: "https://ref"}}); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestLoadAndKeys(t *testing.T) {
	a := with(ecKey(t, "a"), "status", "active")
	g := places{"https://ref": serves(200, setOf(t, a, object{"kty": "XYZ", "kid": "z"}))}
	d, err := Load(t.Context(), g, "https://ref", nil)
	if err != nil || d.HTTP.MaxAge.Seconds() != 300 || d.HTTP.ETag != `"v1"` || d.HTTP.Age.Seconds() != 10 {
		t.Fatalf("%+v, %v", d, err)
	}
	keys, err := Keys(d)
	if err != nil || len(keys) != 2 || keys[0].Status != "active" || len(keys[0].Thumbprint) != 43 || !keys[0].Usable || keys[1].Usable {
		t.Errorf("%+v, %v", keys, err)
	}
	for loc, kind := range map[string]fault.Kind{"https://down": fault.Transient, "/no/such/file": fault.NotFound} {
		if _, err := Load(t.Context(), g, loc, nil); fault.KindOf(err) != kind {
			t.Errorf("%s: %v", loc, err)
		}
	}
	if d, err := Load(t.Context(), g, "-", strings.NewReader("[]")); err != nil {
		t.Error(err)
	} else if _, err := Keys(d); fault.KindOf(err) != fault.Trust {
		t.Errorf("an array: %v", err)
	}
	if _, err := Load(t.Context(), g, "-", strings.NewReader(strings.Repeat("x", MaxBytes+1))); fault.KindOf(err) != fault.Trust {
		t.Errorf("endless input: %v", err)
	}
}

// TestThumbprint is the example of RFC 7638 section 3.1.
func TestThumbprint(t *testing.T) {
	data, err := os.ReadFile("testdata/rfc7638.json")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := Keys(&Document{Body: data})
	if err != nil || keys[0].Thumbprint != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("%+v, %v", keys, err)
	}
}

func TestProbe(t *testing.T) {
	body := setOf(t, ecKey(t, "a"))
	g := places{"https://blind": func(h http.Header) (*oauth.Answer, error) {
		if h.Get("If-None-Match") != "" {
			return serves(304, nil)(h)
		}
		return serves(200, body)(h)
	}, "https://good": serves(200, body)}
	for url, want := range map[string]bool{"https://blind": true, "https://good": false} {
		d, err := Load(t.Context(), g, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		Probe(t.Context(), g, d)
		if d.HTTP.TagBlind != want {
			t.Errorf("%s: blind %v", url, d.HTTP.TagBlind)
		}
	}
}

func TestSavedShowDocument(t *testing.T) {
	body := setOf(t, ecKey(t, "a"))
	data, _ := json.Marshal(object{"schema": SchemaShow, "url": "https://ref", "etag": `"v1"`, "document": string(body)})
	d, err := Load(t.Context(), nil, "-", strings.NewReader(string(data)))
	if err != nil || string(d.Body) != string(body) || d.HTTP == nil || d.HTTP.ETag != `"v1"` {
		t.Fatalf("%+v, %v", d, err)
	}
	if r := Lint(d, LintOptions{}); slices.ContainsFunc(r.Checks, func(id string) bool { return id == "content-type" }) {
		t.Errorf("a saved document is judged like an answer: %v", fmt.Sprint(r.Checks))
	}
}
