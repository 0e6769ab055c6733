package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newSigner(t testing.TB, seed byte) *jose.Signer {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	s, err := jose.NewSigner(key, jose.EdDSA, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// build makes a chain of n records.
func build(t testing.TB, s *jose.Signer, n int) []Record {
	t.Helper()
	var c Chain
	var records []Record
	for i := range n {
		rec, err := c.Next(s, epoch.Add(time.Duration(i)*time.Minute), "test/v1", map[string]int{"n": i})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Accept(rec); err != nil {
			t.Fatal(err)
		}
		records = append(records, rec)
	}
	return records
}

func acceptAll(records []Record) (*Chain, error) {
	var c Chain
	for _, r := range records {
		if _, err := c.Accept(r); err != nil {
			return &c, err
		}
	}
	return &c, nil
}

// resign makes the entry of a record say something else, honestly signed.
func resign(t *testing.T, s *jose.Signer, r Record, edit func(*Entry)) Record {
	t.Helper()
	var e Entry
	if err := json.Unmarshal(r.Payload, &e); err != nil {
		t.Fatal(err)
	}
	edit(&e)
	payload, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.SignDetached(map[string]any{"typ": Type}, payload)
	if err != nil {
		t.Fatal(err)
	}
	return Record{Seq: r.Seq, Payload: payload, JWS: jws}
}

// TestBrokenChains: each flaw is refused; the control is the same chain
// without it. Flaws are signed by the right key wherever that is possible, so
// that the rule itself refuses them and not the signature.
func TestBrokenChains(t *testing.T) {
	ours, other := newSigner(t, 1), newSigner(t, 2)
	good := build(t, ours, 4)
	foreign := build(t, other, 4)
	cases := map[string]func([]Record) []Record{
		"a gap":               func(r []Record) []Record { return append(r[:1:1], r[2:]...) },
		"a record twice":      func(r []Record) []Record { return append(r[:2:2], r[1:]...) },
		"swapped":             func(r []Record) []Record { return []Record{r[0], r[2], r[1], r[3]} },
		"another's record":    func(r []Record) []Record { return []Record{r[0], foreign[1]} },
		"another's signature": func(r []Record) []Record { r[1].JWS = foreign[1].JWS; return r },
		"a changed payload": func(r []Record) []Record {
			r[1].Payload = bytes.Replace(r[1].Payload, []byte(`"n":1`), []byte(`"n":7`), 1)
			return r
		},
		"no prev": func(r []Record) []Record { r[1] = resign(t, ours, r[1], func(e *Entry) { e.Prev = "" }); return r },
		"an earlier time": func(r []Record) []Record {
			r[1] = resign(t, ours, r[1], func(e *Entry) { e.At = epoch.Add(-time.Second) })
			return r
		},
		"another schema": func(r []Record) []Record { r[1] = resign(t, ours, r[1], func(e *Entry) { e.Schema = "x" }); return r },
		"a second key": func(r []Record) []Record {
			k := other.Key()
			r[1] = resign(t, ours, r[1], func(e *Entry) { e.Key = &k })
			return r
		},
		"no first key": func(r []Record) []Record { r[0] = resign(t, ours, r[0], func(e *Entry) { e.Key = nil }); return r },
		"a first key that did not sign": func(r []Record) []Record {
			k := other.Key()
			r[0] = resign(t, ours, r[0], func(e *Entry) { e.Key = &k })
			return r
		},
		"another signature type": func(r []Record) []Record {
			jws, err := ours.SignDetached(map[string]any{"typ": "x"}, r[1].Payload)
			if err != nil {
				t.Fatal(err)
			}
			r[1].JWS = jws
			return r
		},
	}
	if _, err := acceptAll(good); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, flaw := range cases {
		t.Run(name, func(t *testing.T) {
			c, err := acceptAll(flaw(build(t, ours, 4)))
			if !errors.Is(err, ErrBroken) {
				t.Fatalf("accepted up to %d: %v", c.Seq(), err)
			}
			// A refusal leaves the chain usable.
			if c.Seq() == 1 {
				if _, err := c.Accept(good[1]); err != nil {
					t.Errorf("after a refusal: %v", err)
				}
			}
		})
	}
}

func TestRewrittenMiddleDoesNotFit(t *testing.T) {
	ours := newSigner(t, 1)
	records := build(t, ours, 4)
	records[1] = resign(t, ours, records[1], func(e *Entry) { e.Body = json.RawMessage(`{"n":9}`) })
	if c, err := acceptAll(records); !errors.Is(err, ErrBroken) || c.Seq() != 2 {
		t.Errorf("the holder of the key rewrote record 2 and the chain held until %d: %v", c.Seq(), err)
	}
}

func TestStoredForm(t *testing.T) {
	for _, r := range build(t, newSigner(t, 1), 3) {
		got, err := Decode(r.Seq, r.Encode())
		if err != nil || got.Digest() != r.Digest() {
			t.Errorf("record %d: %v", r.Seq, err)
		}
	}
	for _, bad := range []string{"", "\n", "a\n", "a\nb", "a\nb\nc\n", "a\n\nb\n"} {
		if _, err := Decode(1, []byte(bad)); !errors.Is(err, ErrBroken) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzRecord: what is accepted encodes to the bytes that it was read from.
func FuzzRecord(f *testing.F) {
	for _, r := range build(f, newSigner(f, 1), 2) {
		f.Add(r.Encode())
	}
	f.Add([]byte("{}\na.b.c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(1, data)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Encode(), data) {
			t.Fatal("decoded and encoded, the bytes differ")
		}
		var c Chain
		if e, err := c.Accept(r); err == nil {
			if e.Seq != 1 || e.Key == nil || fmt.Sprint(c.Seq()) != "1" {
				t.Fatalf("accepted %+v", e)
			}
		}
	})
}
