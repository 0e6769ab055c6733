package exports

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/release"
)

// advisory is one record of a Concelier bundle.
type advisory struct {
	Key        string      `json:"advisoryKey"`
	Aliases    []string    `json:"aliases"`
	Title      string      `json:"title"`
	Summary    string      `json:"summary"`
	Severity   string      `json:"severity"`
	Published  string      `json:"published"`
	Modified   string      `json:"modified"`
	Exploited  bool        `json:"exploitKnown"`
	CVSS       cvss        `json:"cvss"`
	CWEs       []string    `json:"cwes"`
	Affected   []affected  `json:"affectedPackages"`
	References []reference `json:"references"`
	Provenance provenance  `json:"provenance"`
}

type cvss struct {
	Vector string  `json:"vector"`
	Score  float64 `json:"baseScore"`
}

type affected struct {
	PURL       string `json:"purl"`
	Introduced string `json:"introduced"`
	Fixed      string `json:"fixed,omitempty"`
}

type reference struct {
	Kind string `json:"kind"`
	URL  string `json:"url"`
}

type provenance struct {
	Source   string `json:"source"`
	Recorded string `json:"recordedAt"`
}

// writer makes records up.
type writer struct {
	*rand.Rand
	created time.Time
}

func (w *writer) one(of ...string) string { return of[w.IntN(len(of))] }

func (w *writer) sourceName() string { return w.one("nvd", "ghsa", "osv", "redhat", "debian", "kev") }

func (w *writer) severity() (string, cvss) {
	score := float64(10+w.IntN(91)) / 10
	name := "low"
	switch {
	case score >= 9:
		name = "critical"
	case score >= 7:
		name = "high"
	case score >= 4:
		name = "medium"
	}
	vector := fmt.Sprintf("CVSS:3.1/AV:%s/AC:%s/PR:%s/UI:%s/S:U/C:%s/I:%s/A:%s", w.one("N", "A", "L"), w.one("L", "H"),
		w.one("N", "L", "H"), w.one("N", "R"), w.one("N", "L", "H"), w.one("N", "L", "H"), w.one("N", "L", "H"))
	return name, cvss{vector, score}
}

func (w *writer) cve(n int) string { return fmt.Sprintf("CVE-%d-%04d", 2014+w.IntN(12), 1000+n) }

// ghsa has the alphabet of GitHub's ids.
func (w *writer) ghsa() string {
	const letters = "23456789cfghjmpqrvwx"
	b := []byte("GHSA-xxxx-xxxx-xxxx")
	for i := 5; i < len(b); i++ {
		if b[i] == 'x' {
			b[i] = letters[w.IntN(len(letters))]
		}
	}
	return string(b)
}

func (w *writer) version() string {
	return fmt.Sprintf("%d.%d.%d", w.IntN(9), w.IntN(30), w.IntN(60))
}

func (w *writer) purl() string {
	name := w.one("open", "fast", "tiny", "net", "core", "json", "crypto", "image") + "-" + w.one("parser", "server", "client", "codec", "router", "auth", "cache")
	switch kind := w.one("npm", "pypi", "maven", "deb", "golang"); kind {
	case "maven":
		return "pkg:maven/org.example/" + name
	case "deb":
		return "pkg:deb/debian/" + name
	case "golang":
		return "pkg:golang/example.org/" + name
	default:
		return "pkg:" + kind + "/" + name
	}
}

// prose is a text of some sentences.
func (w *writer) prose(sentences int) string {
	var b strings.Builder
	for range sentences {
		fmt.Fprintf(&b, "A %s in the %s of %s before %s allows %s attackers to %s via %s. ",
			w.one("heap-based buffer overflow", "use after free", "path traversal", "SQL injection", "missing authorization check", "race condition", "deserialization flaw"),
			w.one("request parser", "session handler", "archive extractor", "template engine", "image decoder", "update service"),
			w.purl()[4:], w.version(), w.one("remote", "local", "authenticated", "adjacent"),
			w.one("execute arbitrary code", "read files", "cause a denial of service", "escalate privileges", "bypass a restriction"),
			w.one("a crafted file", "a long header", "a malformed packet", "a symbolic link", "an encoded – dotted – path"))
	}
	return strings.TrimSpace(b.String())
}

func (w *writer) day() time.Time {
	return w.created.Add(-time.Duration(1+w.IntN(9*365*24*3600)) * time.Second)
}

func (w *writer) advisory(n int) advisory {
	severity, score := w.severity()
	cve, ghsa := w.cve(n), w.ghsa()
	published := w.day()
	a := advisory{
		Key: cve, Aliases: []string{cve, ghsa}, Severity: severity, CVSS: score, Exploited: w.IntN(40) == 0,
		Summary: w.prose(1 + w.IntN(8)), CWEs: []string{fmt.Sprintf("CWE-%d", 20+w.IntN(900))},
		Published: published.Format(time.RFC3339), Modified: w.created.Add(-time.Duration(w.IntN(3600*24*30)) * time.Second).Format(time.RFC3339),
		Provenance: provenance{w.sourceName(), w.created.Format(time.RFC3339)},
	}
	if w.IntN(3) == 0 {
		a.Key = ghsa
	}
	for range 1 + w.IntN(5) {
		p := affected{PURL: w.purl(), Introduced: "0"}
		if w.IntN(4) > 0 {
			p.Fixed = w.version()
		}
		a.Affected = append(a.Affected, p)
	}
	a.Title = "Flaw in " + a.Affected[0].PURL[4:]
	for range 1 + w.IntN(4) {
		a.References = append(a.References, reference{w.one("advisory", "patch", "article"), fmt.Sprintf("https://advisories.example/%s/%d", strings.ToLower(cve), w.IntN(1_000_000))})
	}
	return a
}

// bundle writes the bundle of a domain and counts its records by source.
func (e *export) bundle(domain string) (release.Member, []manifestCount, error) {
	w := &writer{rand.New(e.source("bundle/" + domain)), e.o.Created}
	f, err := e.create(release.BundlePath(domain))
	if err != nil {
		return release.Member{}, nil, err
	}
	count := map[string]int{}
	begin := `{"advisories":[`
	if e.o.Feed == Excititor && !e.o.Minimal {
		begin = `{"advisories":[],"claims":[`
	}
	err = f.text(begin)
	for n := 0; err == nil && e.more(n, f.size); n++ {
		var record any
		if e.o.Feed == Excititor {
			c := w.claim(n)
			record = c
			count[c.Provider]++
		} else {
			a := w.advisory(n)
			record = a
			count[a.Provenance.Source]++
		}
		err = f.record(n, record)
	}
	if err == nil {
		err = f.text("]}")
	}
	m, err := f.done(err)
	return m, sorted(count), err
}

// more reports whether a bundle needs another record.
func (e *export) more(n int, size int64) bool {
	if e.o.BundleBytes > 0 {
		return size+int64(len("]}")) < e.o.BundleBytes
	}
	return n < e.o.Advisories
}

// record writes one entry of an array on a line of its own.
func (f *file) record(n int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	before := ",\n"
	if n == 0 {
		before = "\n"
	}
	_, err = f.Write(append([]byte(before), data...))
	return err
}
