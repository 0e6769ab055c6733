package lifecycle

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stella-ops/stella/internal/keyring"
)

// What is accepted as a request is one that the server would send itself.
func FuzzRequest(f *testing.F) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	f.Add([]byte(`{"action":"activate","kid":"k","force":true,"reason":"r"}`))
	f.Add([]byte(`{"action":"schedule","activate_at":"2026-11-22T04:00:00Z"}`))
	f.Add([]byte(`{"action":"stage","action":"taint"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var req, again keyring.Request
		if decode(data, &req) != nil || checkRequest(&req, now) != nil {
			return
		}
		out, err := json.Marshal(req)
		if err != nil {
			t.Skip() // a year that JSON cannot write
		}
		if err := decode(out, &again); err != nil || checkRequest(&again, now) != nil {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

// Control characters are refused here, whatever the keyring does.
func TestControlCharacters(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	check := func(text string) []error {
		return []error{
			checkRequest(&keyring.Request{Action: keyring.Stage, Reason: text}, now),
			(&UpstreamRequest{KeyID: "k", Reason: text}).check(),
			(&UpstreamRequest{KeyID: "k", Metadata: map[string]string{"n": text}}).check(),
			(&UpstreamRequest{KeyID: "k", Metadata: map[string]string{text: "v"}}).check(),
		}
	}
	for i, err := range check("für später; a=b") {
		if err != nil {
			t.Errorf("control %d: %v", i, err)
		}
	}
	for _, text := range []string{"a\x00b", "\x1b[2J", "a\nb", "\x7f", "\u0080", "\u009b2J", "\u009f"} {
		for i, err := range check(text) {
			if err == nil {
				t.Errorf("%q: %d was accepted", text, i)
			}
		}
	}
}

func FuzzUpstreamRequest(f *testing.F) {
	f.Add([]byte(`{"keyId":"k","location":"../x.pem","source":"file","provider":"default","metadata":{"a":"b"}}`))
	f.Add([]byte(`{"keyId":"k","force":true,"reason":"r"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var req UpstreamRequest
		if decode(data, &req) != nil || req.check() != nil {
			return
		}
		if !keyring.ValidKID(req.KeyID) || len(req.reason()) > keyring.MaxReason || req.Force && req.Reason == "" ||
			strings.ContainsFunc(req.reason(), unicode.IsControl) {
			t.Fatalf("accepted %q", data)
		}
	})
}

func FuzzObservations(f *testing.F) {
	f.Add([]byte(`{"observations":[{"name":"edge","url":"https://e/jwks","kids":["k"],"max_age_s":300}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var doc keyring.Observations
		if decode(data, &doc) != nil {
			return
		}
		for _, o := range doc.Observations {
			_ = ValidPoint(o.Name)
			_ = CheckPointURL(o.URL)
		}
	})
}
