package lifecycle

import (
	"encoding/json"
	"testing"

	"github.com/stella-ops/stella/internal/keyring"
)

// What is accepted as a request is one that the server would send itself.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"action":"activate","kid":"k","force":true,"reason":"r"}`))
	f.Add([]byte(`{"action":"schedule","activate_at":"2026-11-22T04:00:00Z"}`))
	f.Add([]byte(`{"action":"stage","action":"taint"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var req, again keyring.Request
		if decode(data, &req) != nil || checkRequest(&req) != nil {
			return
		}
		out, err := json.Marshal(req)
		if err != nil {
			t.Skip() // a year that JSON cannot write
		}
		if err := decode(out, &again); err != nil || checkRequest(&again) != nil {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

func FuzzUpstreamRequest(f *testing.F) {
	f.Add([]byte(`{"keyId":"k","location":"../x.pem","source":"file","provider":"default","metadata":{"a":"b"}}`))
	f.Add([]byte(`{"keyId":"k","force":true,"reason":"r"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var req UpstreamRequest
		if decode(data, &req) != nil || req.check() != nil {
			return
		}
		if !keyring.ValidKID(req.KeyID) || len(req.reason()) > keyring.MaxReason || req.Force && req.Reason == "" {
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
