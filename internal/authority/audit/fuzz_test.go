package audit

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"github.com/stella-ops/stella/internal/httpd"
)

// FuzzParse: what is accepted is what its record is written as, and a record
// read back says the same.
func FuzzParse(f *testing.F) {
	f.Add(full().AppendJSON(nil))
	f.Add([]byte(`{"schema":"stella.audit/v1","eventType":"x","occurredAt":"2026-11-22T03:04:05.000006Z","outcome":"Success"}`))
	f.Add([]byte(`{"schema":"stella.audit/v1","eventType":"\u202e","occurredAt":"2026-11-22T03:04:05.000006Z","outcome":"Error","scopes":[{"value":"a","classification":"None"}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		rec, err := Parse(line)
		if err != nil {
			return
		}
		if again := rec.AppendJSON(nil); !bytes.Equal(again, bytes.TrimSuffix(line, []byte{'\n'})) {
			t.Errorf("%s\nis written again as\n%s", line, again)
		}
	})
}

// FuzzRecord: whatever a caller sends, the record is one line of printable
// JSON that Parse takes back, and nothing Sensitive is in it.
func FuzzRecord(f *testing.F) {
	f.Add("alice", "curl/8", "a b", "top secret top secret")
	f.Add("a\r\n{\"schema\":\"stella.audit/v1\"}", "\x1b[2J\u009b2J\u202e", "\xff\xfe\u2028", "0123456789abcdefg")
	f.Add(jwt, "Bearer "+jwt, "Bearer 12345678901234"+strings.Repeat(" x", 300), "\U000E0001\U0001F600 secret secret")
	f.Fuzz(func(t *testing.T, user, agent, scopes, secret string) {
		e := &Event{}
		e.Set(TypeDeviceLogin)
		e.Outcome(Failure, scopes)
		e.Subject(user, agent, scopes, user)
		e.Client(user, agent)
		e.Tenant(user)
		e.Scopes(strings.Split(scopes, " "))
		e.Prop("token", secret, Sensitive)
		e.Prop("x"+agent, user, Personal)
		r := httptest.NewRequest("POST", "/x", nil)
		r.Header["User-Agent"], r.Header["X-Forwarded-For"] = []string{agent}, []string{user, scopes}
		var line []byte
		e.end(sinkFunc(func(rec *Record) { line = rec.AppendJSON(nil) }), r, Options{Now: when, Remote: httpd.RemoteHost}, true)
		if !json.Valid(line) || len(line) > MaxLine {
			t.Fatalf("not JSON, or %d bytes: %s", len(line), line)
		}
		for _, c := range string(line) {
			if !unicode.IsPrint(c) {
				t.Fatalf("%U in %s", c, line)
			}
		}
		rec, err := Parse(line)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for _, p := range rec.Properties {
			if p.Name != "token" {
				continue
			}
			shown := p.Value.String()
			if p.Value.Class() != Sensitive || len(secret) < minDigested && shown != shortSecret ||
				len(secret) >= minDigested && strings.Contains(shown, secret) {
				t.Errorf("%q is shown as %q", secret, shown)
			}
		}
	})
}
