package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/httpd"
)

// jwt looks like an access token.
const jwt = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

func when() time.Time { return time.Date(2026, 11, 22, 3, 4, 5, 6789, time.UTC) }

// full is a record with every member.
func full() *Record {
	e := &Event{}
	e.Set(TypeRefreshToken)
	e.Outcome(Failure, "invalid_grant")
	e.Subject("u-1", "alice", "Alice \"Al\" Ärger", "standard")
	e.Client("stella-cli", "Stella CLI")
	e.Provider("standard")
	e.Tenant("acme")
	e.Scopes([]string{"jobs.trigger", "jobs.read", "jobs.read"})
	e.Prop(PropFamily, "fam-0123456789abcdef", Sensitive)
	e.Prop(PropKID, "k1", None)
	r := httptest.NewRequest("POST", "/token", nil)
	r.Header.Set("User-Agent", "curl/8")
	r.Header.Set("X-Forwarded-For", "10.0.0.1, 10.0.0.2")
	var got *Record
	e.end(sinkFunc(func(rec *Record) { got = rec }), r, Options{Now: when, Remote: httpd.RemoteHost}, true)
	got.CorrelationID = "req-1"
	return got
}

func TestGolden(t *testing.T) {
	line := full().AppendJSON(nil)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, line, "", "  "); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "full.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := pretty.String() + "\n"; got != string(want) {
		t.Errorf("the format changed:\n%s", got)
	}
	spec, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "formats", "audit-record.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(spec, want) {
		t.Error("docs/formats/audit-record.md does not show testdata/full.json as it is")
	}
}

func TestEmptyMembersAreLeftOut(t *testing.T) {
	rec := &Record{Type: "x", OccurredAt: when(), Outcome: Success}
	want := `{"schema":"stella.audit/v1","eventType":"x","occurredAt":"2026-11-22T03:04:05.000006Z","outcome":"Success"}`
	if got := string(rec.AppendJSON(nil)); got != want {
		t.Errorf("got %s", got)
	}
	rec.Client.Name = Classify("n", None)
	want = want[:len(want)-1] + `,"client":{"name":{"value":"n","classification":"None"}}}`
	if got := string(rec.AppendJSON(nil)); got != want {
		t.Errorf("got %s", got)
	}
}

func TestSensitiveIsNeverWritten(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "",
		"hunter2":             "[short]",
		"0123456789abcde":     "[short]",
		"0123456789abcdef":    "sha256:9f9f5111f7b27a78",
		"sha256:00112233aabb": "sha256:7e2869135e0f25eb",
	} {
		v := Classify(text, Sensitive)
		if v.String() != want || text != "" && v.Class() != Sensitive {
			t.Errorf("%q is written %q, %s", text, v.String(), v.Class())
		}
		if plain := Classify(text, Personal); plain.String() != text {
			t.Errorf("%q, which is not Sensitive, is written %q", text, plain.String())
		}
	}
	if v := Classify("a value of a class to come", Class(9)); v.Class() != Sensitive || strings.Contains(v.String(), "value") {
		t.Errorf("an unknown class shows %q as %s", v.String(), v.Class())
	}
}

// TestCredentialsInPlainText is negative test J07 for what a caller can put
// into a field that is not Sensitive.
func TestCredentialsInPlainText(t *testing.T) {
	for text, want := range map[string]string{
		"got " + jwt:                                            "got [redacted]",
		"Bearer abcdefghijklmnopqrst":                           "Bearer [redacted]",
		"curl/8 " + jwt + " x":                                  "curl/8 [redacted] x",
		"got a token":                                           "got a token", // the control
		strings.Repeat("x", 480) + " " + jwt:                    strings.Repeat("x", 480) + " [redacted]",
		strings.Repeat("x", 495) + " " + jwt:                    strings.Repeat("x", 495) + " [redacted]",
		strings.Repeat("x", 509) + jwt:                          strings.Repeat("x", 509) + "…",
		strings.Repeat("x", maxInput-10) + " " + jwt:            strings.Repeat("x", 509) + "…",
		strings.Repeat("x", 488) + " Bearer 12345678901234 abc": strings.Repeat("x", 488) + " Bearer [redacted]", // with "…" it is long enough
		"eyJ" + strings.Repeat("x", maxInput) + ".x":            "eyJ" + strings.Repeat("x", 506) + "…",          // what lies behind is not looked at
		"eyJ" + strings.Repeat("x", maxInput-10) + ".x":         "[redacted]",
		"Bearer 12345678901234 " + strings.Repeat("x", MaxText): "Bearer 12345678901234 " + strings.Repeat("x", 487) + "…",
	} {
		if got := Classify(text, None).String(); got != want {
			t.Errorf("%q is written %q", text, got)
		}
	}
}

func TestBounds(t *testing.T) {
	long := strings.Repeat("ä", 1000)
	got := Classify(long, None).String()
	if len(got) > MaxText || len(got) < MaxText-4 || !utf8.ValidString(got) || !strings.HasSuffix(got, "ä…") {
		t.Errorf("cut to %d bytes: %q", len(got), got)
	}
	if exact := strings.Repeat("x", MaxText); Classify(exact, None).String() != exact {
		t.Error("a text of MaxText bytes is cut")
	}
	if got := Classify("a\xffb", None).String(); got != "a\uFFFDb" {
		t.Errorf("broken UTF-8 becomes %q", got)
	}
	e := &Event{}
	scopes := make([]string, 100)
	for i := range scopes {
		scopes[i] = strings.Repeat("s", 100+i)
	}
	e.Scopes(scopes)
	if n := len(e.rec.Scopes); n != MaxScopes || e.rec.Scopes[n-1].String() != "…" || len(e.rec.Scopes[50].String()) != MaxScope {
		t.Errorf("%d scopes, the last is %v", n, e.rec.Scopes[n-1])
	}
	if scopes[99] != strings.Repeat("s", 199) {
		t.Error("the caller's scopes were changed")
	}
	for i := range 2 * MaxProperties {
		e.Prop("p"+strings.Repeat("x", i), "v", None)
	}
	e.Prop("p", "w", None)
	if len(e.rec.Properties) != MaxProperties || e.rec.Properties[0].Value.String() != "w" {
		t.Errorf("%d properties, the first %v", len(e.rec.Properties), e.rec.Properties[0])
	}
}

// TestLargestRecord fills every member with what costs most to write.
func TestLargestRecord(t *testing.T) {
	worst := strings.Repeat("\x01", maxInput)
	e := &Event{}
	e.Set(worst)
	e.Outcome(Failure, worst)
	e.Subject(worst, worst, worst, worst)
	e.Client(worst, worst)
	e.Provider(worst)
	e.Tenant(worst)
	var scopes []string
	for i := range 2 * MaxScopes {
		scopes = append(scopes, strings.Repeat("\x01", i+1)+worst, worst[:i+1])
		e.Prop(worst[:i+1]+worst, worst, Personal)
		e.Prop(worst[:i+1], worst, Personal)
	}
	e.Scopes(scopes)
	r := httptest.NewRequest("POST", "/token", nil)
	r.RemoteAddr = worst
	r.Header.Set("User-Agent", worst)
	r.Header.Set("Forwarded", worst)
	var line []byte
	e.end(sinkFunc(func(rec *Record) { line = rec.AppendJSON(nil) }), r, Options{Now: when, Remote: httpd.RemoteHost}, true)
	if len(line) > MaxLine || len(line) < MaxLine/4 {
		t.Errorf("the largest record has %d bytes, MaxLine is %d", len(line), MaxLine)
	}
	if _, err := Parse(line); err != nil {
		t.Error(err)
	}
}

func TestParseIsStrict(t *testing.T) {
	good := string(full().AppendJSON(nil))
	if rec, err := Parse([]byte(good + "\n")); err != nil || rec.Properties[0].Value.Class() != Sensitive || rec.Subject.Username.String() != "alice" {
		t.Fatalf("%+v %v", rec, err)
	}
	replace := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("no %s in %s", from, good)
		}
		return strings.Replace(good, from, to, 1)
	}
	with := func(scopes, props int) string {
		rec := full()
		rec.Scopes, rec.Properties = make([]Value, scopes), make([]Property, props)
		for i := range rec.Scopes {
			rec.Scopes[i] = Classify("s", None)
		}
		for i := range rec.Properties {
			rec.Properties[i] = Property{"p", Classify("v", None)}
		}
		return string(rec.AppendJSON(nil))
	}
	if _, err := Parse([]byte(with(MaxScopes, MaxProperties))); err != nil {
		t.Error(err)
	}
	for name, line := range map[string]string{
		"scopes":             with(MaxScopes+1, 1),
		"properties":         with(1, MaxProperties+1),
		"empty":              "",
		"no object":          "[]",
		"two":                good + good,
		"space":              good + " ",
		"carriage return":    good + "\r\n",
		"schema":             replace("audit/v1", "audit/v2"),
		"outcome":            replace(`"Failure"`, `"failure"`),
		"time zone":          replace("000006Z", "000006+00:00"),
		"nanoseconds":        replace("000006Z", "000006000Z"),
		"no type":            replace(TypeRefreshToken, ""),
		"unknown member":     replace(`"tenant"`, `"x":1,"tenant"`),
		"twice":              replace(`"tenant"`, `"outcome":"Failure","tenant"`),
		"class":              replace(`"Personal"`, `"personal"`),
		"raw secret":         replace(`"sha256:`, `"sha255:`),
		"digest in capitals": strings.Replace(good, `"sha256:`, `"sha256:A`, 1),
		"class lowered":      replace(`"reason":{"value":"invalid_grant"`, `"reason":{"value":"`+jwt+`"`),
		"needless escape":    replace("alice", `\u0061lice`),
		"long":               replace("alice", strings.Repeat("a", MaxText+1)),
		"huge":               replace("alice", strings.Repeat("a", MaxLine)),
	} {
		if _, err := Parse([]byte(line)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
