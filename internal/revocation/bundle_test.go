package revocation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/revocation"
)

const issuer = "https://authority.example"

// golden reads a file that Python made (testdata/SOURCES.md).
func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "valid", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func at(second int) time.Time { return time.Date(2026, 11, 22, 4, 0, second, 0, time.UTC) }

func token(id string) revocation.Entry {
	return revocation.Entry{Category: revocation.Token, ID: id, RevokedAt: at(0), TokenType: "access_token", ClientID: "c", Reason: "r"}
}

func subject(id string, revokedAt time.Time) revocation.Entry {
	return revocation.Entry{Category: revocation.Subject, ID: id, SubjectID: id, RevokedAt: revokedAt, Reason: "s"}
}

func client(id string, revokedAt time.Time) revocation.Entry {
	return revocation.Entry{Category: revocation.Client, ID: id, ClientID: id, RevokedAt: revokedAt, Reason: "c"}
}

func key(kid string) revocation.Entry {
	return revocation.Entry{Category: revocation.Key, ID: kid, RevokedAt: at(0), Reason: "k"}
}

func bundle(sequence int64, entries ...revocation.Entry) *revocation.Bundle {
	return &revocation.Bundle{
		SchemaVersion: revocation.SchemaVersion, Issuer: issuer, IssuedAt: at(int(sequence)), Sequence: sequence, Revocations: entries,
	}
}

func encode(t testing.TB, b *revocation.Bundle) []byte {
	t.Helper()
	data, err := revocation.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A bundle that other software wrote is read, and written alike.
func TestGolden(t *testing.T) {
	data := golden(t, revocation.FileBundle)
	b, err := revocation.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(data), string(encode(t, b))); d != "" {
		t.Fatal(d)
	}
	if len(b.Revocations) != 4 || b.Metadata["environment"] != "prod <&> é \U0001f511" || b.Revocations[0].ID != `old "client"` {
		t.Errorf("read as %+v", b)
	}
	if want := strings.TrimSpace(string(golden(t, revocation.FileDigest))); revocation.Digest(data) != "sha256:"+want {
		t.Errorf("digest %s, want %s", revocation.Digest(data), want)
	}
}

// Encode brings into order what Parse wants in order.
func TestEncodeOrders(t *testing.T) {
	scoped := token("b")
	scoped.Scopes = []string{"z", "a", "z"}
	local := subject("u", at(5).In(time.FixedZone("x", 3600)))
	b := bundle(1, scoped, local, token("a"), key("k"), client("c", at(2)), subject("u", at(4)))
	data := encode(t, b)
	got, err := revocation.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, e := range got.Revocations {
		order = append(order, string(e.Category)+" "+e.ID)
	}
	want := []string{"client c", "key k", "subject u", "subject u", "token a", "token b"}
	if d := cmp.Diff(want, order); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"a", "z"}, got.Revocations[5].Scopes); d != "" {
		t.Error(d)
	}
	if !got.Revocations[3].RevokedAt.Equal(at(5)) || !strings.Contains(string(data), `"2026-11-22T04:00:05Z"`) {
		t.Error("times are not in UTC")
	}
	if b.Revocations[0].ID != "b" || scoped.Scopes[0] != "z" {
		t.Error("the caller's bundle was changed")
	}
	empty := encode(t, bundle(0))
	if !strings.Contains(string(empty), `"revocations": []`) {
		t.Errorf("empty: %s", empty)
	}
	if _, err := revocation.Parse(empty); err != nil {
		t.Error(err)
	}
}

// Each row changes one thing of a bundle that is accepted.
func TestSchema(t *testing.T) {
	text := string(golden(t, revocation.FileBundle))
	swap := func(old, new string) string {
		if strings.Count(text, old) == 0 {
			t.Fatalf("nothing to change: %s", old)
		}
		return strings.Replace(text, old, new, 1)
	}
	if _, err := revocation.Parse([]byte(text)); err != nil {
		t.Fatalf("control: %v", err)
	}
	rows := map[string]string{
		"line at the end":       text + "\n",
		"data at the end":       text + "{}",
		"compact":               strings.Join(strings.Fields(text), ""),
		"CRLF":                  strings.ReplaceAll(text, "\n", "\r\n"),
		"BOM":                   "\ufeff" + text,
		"invalid UTF-8":         swap("é", "\xe9"),
		"escaped":               swap("é", `\u00e9`),
		"lone surrogate":        swap("é", `\ud800`),
		"unknown member":        swap(`"sequence": 7`, `"other": 1,`+"\n"+`  "sequence": 7`),
		"unknown entry member":  swap(`"subjectId": "usr_1"`, `"sub": "usr_1"`),
		"other spelling":        swap(`"sequence"`, `"Sequence"`),
		"member twice":          swap(`"sequence": 7`, `"sequence": 7,`+"\n"+`  "sequence": 7`),
		"version":               swap(`"1.0.0"`, `"1.1.0"`),
		"no version":            swap(`"1.0.0"`, `""`),
		"issuer":                swap(`"https://authority.example"`, `"authority"`),
		"negative sequence":     swap(`"sequence": 7`, `"sequence": -1`),
		"sequence of a float":   swap(`"sequence": 7`, `"sequence": 7.0`),
		"huge sequence":         swap(`"sequence": 7`, `"sequence": 9007199254740993`),
		"sequence null":         swap(`"sequence": 7`, `"sequence": null`),
		"bundleId in capitals":  swap("aabbccddeeff", "AABBCCDDEEFF"),
		"short bundleId":        swap("00112233445566778899aabbccddeeff", "0011"),
		"time with offset":      swap(`"issuedAt": "2026-11-22T04:00:00Z"`, `"issuedAt": "2026-11-22T04:00:00+00:00"`),
		"time with zeros":       swap(`"issuedAt": "2026-11-22T04:00:00Z"`, `"issuedAt": "2026-11-22T04:00:00.0Z"`),
		"time is no time":       swap(`"issuedAt": "2026-11-22T04:00:00Z"`, `"issuedAt": "yesterday"`),
		"time is null":          swap(`"issuedAt": "2026-11-22T04:00:00Z"`, `"issuedAt": null`),
		"time is year 1":        swap(`"expiresAt": "2126`, `"expiresAt": "0001`),
		"category":              swap(`"category": "key"`, `"category": "keys"`),
		"no id":                 swap(`"id": "jti-1"`, `"id": ""`),
		"no tokenType":          swap(`"tokenType": "access_token"`, `"tokenType": ""`),
		"no subjectId":          swap(`      "revokedAt": "2026-11-22T03:00:00.25Z",`+"\n"+`      "subjectId": "usr_2"`, `      "revokedAt": "2026-11-22T03:00:00.25Z"`),
		"reason is a sentence":  swap("key_compromise", "key was lost"),
		"control character":     swap("usr_1", `usr\u0001`),
		"line separator":        swap("usr_1", `usr`+"\u2028"),
		"scopes not sorted":     swap("jobs:read", "jobs:zzz"),
		"scope twice":           swap("jobs:read", "jobs:write"),
		"entries not sorted":    swap(`"category": "client"`, `"category": "token"`),
		"metadata is nested":    swap(`"count": 4`, `"count": {}`),
		"metadata is null":      swap(`"count": 4`, `"count": null`),
		"metadata is a float":   swap(`"count": 4`, `"count": 4.5`),
		"metadata is minus nil": swap(`"count": 4`, `"count": -0`),
		"revocations null":      text[:strings.Index(text, `"revocations"`)] + `"revocations": null,` + text[strings.Index(text, "\n  \"schemaVersion\""):],
		"id too long":           swap("jti-1", strings.Repeat("j", 513)),
		"empty":                 "",
		"array":                 "[]",
	}
	for name, changed := range rows {
		_, err := revocation.Parse([]byte(changed))
		if !errors.Is(err, revocation.ErrSchema) || fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := swap("jti-1", strings.Repeat("j", 512))
	if _, err := revocation.Parse([]byte(long)); err != nil {
		t.Errorf("an id of 512 bytes: %v", err)
	}
}

// Two entries of one category, id and time would have two orders.
func TestSameTwice(t *testing.T) {
	if _, err := revocation.Encode(bundle(1, token("a"), token("a"))); !errors.Is(err, revocation.ErrSchema) {
		t.Errorf("twice the same: %v", err)
	}
	if _, err := revocation.Encode(bundle(1, subject("a", at(1)), subject("a", at(2)))); err != nil {
		t.Errorf("two times: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	huge := bytes.Repeat([]byte(" "), revocation.MaxBytes+1)
	if _, err := revocation.Parse(huge); !errors.Is(err, revocation.ErrSchema) || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
	b := bundle(1)
	long := strings.Repeat("x", 500)
	for n := range int64(revocation.MaxBytes/500 + 1) {
		e := token(long)
		e.RevokedAt = at(0).Add(time.Duration(n) * time.Second)
		b.Revocations = append(b.Revocations, e)
	}
	if _, err := revocation.Encode(b); !errors.Is(err, revocation.ErrSchema) || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(golden(f, revocation.FileBundle))
	f.Add(encode(f, bundle(0)))
	f.Add(encode(f, bundle(3, token("a"), key("k"), subject("u", at(0)), client("c", at(1).Add(time.Millisecond)))))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := revocation.Parse(data)
		if err != nil {
			if !errors.Is(err, revocation.ErrSchema) || fault.KindOf(err) != fault.Trust {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		if again := encode(t, b); !bytes.Equal(again, data) {
			t.Fatalf("%q is written again as %q", data, again)
		}
		if !json.Valid(data) {
			t.Fatal("not JSON")
		}
	})
}

func FuzzParseDocument(f *testing.F) {
	seed, err := (&revocation.Document{Sequence: 1, Bundle: encode(f, bundle(1)), Signature: "a..b"}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := revocation.ParseDocument(data)
		if err != nil || d.Digest != revocation.Digest(d.Bundle) {
			return
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		e, err := revocation.ParseDocument(again)
		if err != nil || cmp.Diff(d, e) != "" {
			t.Fatalf("%q is read again as %+v, %v", data, e, err)
		}
	})
}
