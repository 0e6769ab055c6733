package jwkscheck

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

// Severity of a finding.
type Severity string

// The severities. An error breaks verifiers or gives something away; a warning
// will, some day or for some of them.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing wrong with a key set.
type Finding struct {
	ID       string   `json:"id"` // stable
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Where    string   `json:"where"`
	Remedy   string   `json:"remedy"`
}

// LintOptions are the limits of the linter.
type LintOptions struct {
	MaxKeys  int           // a larger set gets a warning; 0 means DefaultMaxKeys
	MaxCache time.Duration // a longer max-age is an error; 0 means DefaultMaxCache
	Earlier  *Document     // an earlier state of the same set, or nil
}

// Defaults of LintOptions. Verifiers with a cache of a week took a week to see
// a new key (peers A.3); one day is the longest that a taint can wait for.
const (
	DefaultMaxKeys  = 20
	DefaultMaxCache = 24 * time.Hour
)

// Report is what the linter found.
type Report struct {
	Source   string
	Keys     int
	Checks   []string // ids of the checks that ran, sorted
	Findings []Finding
}

// Count returns how many findings have that severity.
func (r *Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// check is one rule. A rule about headers runs only on what came over HTTP,
// one about an earlier state only when there is one.
type check struct {
	id       string
	severity Severity
	remedy   string
	run      func(in input, report func(where, what string))
	needs    func(in input) bool // nil: always
}

// input is what checks look at.
type input struct {
	doc       *Document
	keys      []rawKey
	duplicate error
	earlier   []rawKey
	opt       LintOptions
}

func (in input) overHTTP() bool { return in.doc.HTTP != nil && in.doc.HTTP.Status != 0 }
func (in input) hasPast() bool  { return in.opt.Earlier != nil }

// Probe asks the server of d one more question that lint needs: whether it
// compares entity tags. It does nothing for a file.
func Probe(ctx context.Context, g Getter, d *Document) {
	if d.HTTP != nil && d.HTTP.ETag != "" {
		probeTag(ctx, g, d)
	}
}

// Lint judges a document. What is not a key set at all yields the one finding
// "not-a-set".
func Lint(d *Document, opt LintOptions) *Report {
	opt.MaxKeys = cmp.Or(opt.MaxKeys, DefaultMaxKeys)
	opt.MaxCache = cmp.Or(opt.MaxCache, DefaultMaxCache)
	r := &Report{Source: d.Source, Checks: []string{"not-a-set"}, Findings: []Finding{}}
	in := input{doc: d, opt: opt}
	var err error
	if in.keys, in.duplicate, err = parseRaw(d.Body); err != nil {
		r.Findings = append(r.Findings, Finding{"not-a-set", Error, err.Error(), "document",
			"serve a JSON object with an array \"keys\" (RFC 7517 section 5)"})
		return r
	}
	r.Keys = len(in.keys)
	if opt.Earlier != nil {
		if in.earlier, _, err = parseRaw(opt.Earlier.Body); err != nil {
			in.opt.Earlier = nil
			r.Findings = append(r.Findings, Finding{"earlier-not-a-set", Warning, "the earlier state cannot be compared: " + err.Error(),
				opt.Earlier.Source, "save it with: stella auth jwks show --output json"})
		}
	}
	for _, c := range slices.Concat(setChecks(), keyChecks(), rsaChecks(), curveChecks(), httpChecks()) {
		if c.needs != nil && !c.needs(in) {
			continue
		}
		r.Checks = append(r.Checks, c.id)
		c.run(in, func(where, what string) {
			r.Findings = append(r.Findings, Finding{c.id, c.severity, what, where, c.remedy})
		})
	}
	r.strict(d)
	slices.Sort(r.Checks)
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Where, b.Where))
	})
	return r
}

// strict is the last check: what nothing else explains, but a strict verifier
// refuses, is an error all the same.
func (r *Report) strict(d *Document) {
	r.Checks = append(r.Checks, "strict-refusal")
	if r.Count(Error) > 0 {
		return
	}
	if _, err := jose.ParseSet(d.Body); err != nil {
		r.Findings = append(r.Findings, Finding{"strict-refusal", Error, fmt.Sprintf("a strict verifier refuses the set: %.200v", err),
			"document", "follow RFC 7517 to the letter; what the verifier says is what to change"})
	}
}

// each makes a rule about single keys: judge returns "" or what is wrong.
func each(judge func(k rawKey) string) func(input, func(string, string)) {
	return func(in input, report func(where, what string)) {
		for i, k := range in.keys {
			if what := judge(k); what != "" {
				report(at(i, k), what)
			}
		}
	}
}

func (in input) tooLarge() bool {
	return len(in.doc.Body) > jose.MaxSetBytes || len(in.keys) > jose.MaxSetKeys
}

func (in input) sameBody() bool {
	return bytes.Equal(bytes.TrimSpace(in.doc.Body), bytes.TrimSpace(in.opt.Earlier.Body))
}
