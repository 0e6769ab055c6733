package keyring

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"
)

// FuzzDecodePEM: what is accepted is one block whose bytes encode back.
func FuzzDecodePEM(f *testing.F) {
	der, err := newMaterial()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodePEM(data)
		if err != nil {
			return
		}
		again, err := DecodePEM(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: got}))
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("accepted once, then not: %v", err)
		}
		// Whatever is in it, describing it must not panic.
		_, _ = describeFile(got, "", epoch)
	})
}

// FuzzSeconds: what is accepted is in range and encodes to the same duration.
func FuzzSeconds(f *testing.F) {
	for _, s := range []string{"0", "300", "0.2", "1e3", "-1", "1e300", "null", `"5"`, "316224000", "0.0004"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s Seconds
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return
		}
		if d := s.Duration(); d < 0 || d > 10*366*24*time.Hour {
			t.Fatalf("%q is out of range: %s", text, d)
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Seconds
		if err := json.Unmarshal(out, &again); err != nil || again != s {
			t.Fatalf("%q: %s became %s (%v)", text, s, again, err)
		}
	})
}
