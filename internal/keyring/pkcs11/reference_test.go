package pkcs11

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

func TestReference(t *testing.T) {
	o := Options{Token: "stella prod"}
	for text, want := range map[string]reference{
		"pkcs11:token=stella%20prod;object=stella-0a-1;id=%00%FF;type=private": {"stella prod", "stella-0a-1", []byte{0, 255}},
		"pkcs11:id=%00": {"", "", []byte{0}},
		"pkcs11:type=private;id=a%2fb;object=%C3%A9": {"", "é", []byte("a/b")},
		"pkcs11:id=:[]@!$'()*+,=&-._~":               {"", "", []byte(":[]@!$'()*+,=&-._~")},
		"pkcs11:id=" + strings.Repeat("%61", maxID):  {"", "", bytes.Repeat([]byte("a"), maxID)},
		"pkcs11:id=a;object=" + strings.Repeat("a", maxName): {
			"", strings.Repeat("a", maxName), []byte("a")},
	} {
		got, err := o.parse(text)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || !bytes.Equal(got.id, want.id) {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
		if again, err := o.parse(got.String()); err != nil || !bytes.Equal(again.id, want.id) || again.object != want.object {
			t.Errorf("%s is written as %s: %v", text, got, err)
		}
	}
	canonical := "pkcs11:token=stella%20prod;object=stella-0a-1;id=%00%FF;type=private"
	if r, err := o.parse(canonical); err != nil || r.String() != canonical {
		t.Errorf("%s is written as %s (%v)", canonical, r, err)
	}
}

// Each differs in one thing from pkcs11:object=a;id=%61, which is good.
func TestReferenceRefused(t *testing.T) {
	o := Options{Token: "stella"}
	if _, err := o.parse("pkcs11:object=a;id=%61"); err != nil {
		t.Fatal(err) // control
	}
	for name, text := range map[string]string{
		"no scheme":      "object=a;id=%61",
		"capitals":       "PKCS11:object=a;id=%61",
		"no id":          "pkcs11:object=a",
		"empty id":       "pkcs11:object=a;id=",
		"long id":        "pkcs11:object=a;id=" + strings.Repeat("a", maxID+1),
		"two ids":        "pkcs11:object=a;id=%61;id=%61",
		"two objects":    "pkcs11:object=a;object=a;id=%61",
		"empty object":   "pkcs11:object=;id=%61",
		"long object":    "pkcs11:object=" + strings.Repeat("a", maxName+1) + ";id=%61",
		"no utf-8":       "pkcs11:object=%FF;id=%61",
		"other token":    "pkcs11:object=a;id=%61;token=other",
		"empty token":    "pkcs11:object=a;id=%61;token=",
		"public":         "pkcs11:object=a;id=%61;type=public",
		"last empty":     "pkcs11:object=a;id=%61;",
		"first empty":    "pkcs11:;object=a;id=%61",
		"no value":       "pkcs11:object;id=%61",
		"half an escape": "pkcs11:object=a;id=%6",
		"bare percent":   "pkcs11:object=a;id=%",
		"no hex":         "pkcs11:object=a;id=%6g",
		"plus sign hex":  "pkcs11:object=a;id=%+1",
		"blank":          "pkcs11:object=a b;id=%61",
		"slash":          "pkcs11:object=a/b;id=%61",
		"zero byte":      "pkcs11:object=a\x00;id=%61",
		"raw utf-8":      "pkcs11:object=é;id=%61",
		"escaped name":   "pkcs11:%6Fbject=a;id=%61",
		"unknown":        "pkcs11:object=a;id=%61;serial=hunter2",
		"vendor":         "pkcs11:object=a;id=%61;x-hunter2=1",
		"pin":            "pkcs11:object=a;id=%61;pin-value=hunter2",
		"pin source":     "pkcs11:object=a;id=%61;pin-source=file:hunter2",
		"module":         "pkcs11:object=a;id=%61;module-path=/hunter2",
		"query":          "pkcs11:object=a;id=%61?pin-value=hunter2",
		"empty query":    "pkcs11:object=a;id=%61?",
		"long":           "pkcs11:object=a;id=%61;x=" + strings.Repeat("a", 1<<20),
		"attributes":     "pkcs11:" + strings.Repeat(";", 1<<10),
	} {
		_, err := o.parse(text)
		if fault.KindOf(err) != fault.Input || strings.Contains(fmt.Sprint(err, fault.HintsOf(err)), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReference: what is accepted is bounded and means the same when written
// and read again; what is refused is bad input and not repeated.
func FuzzReference(f *testing.F) {
	for _, seed := range []string{
		"pkcs11:token=stella;object=stella-0a-1;id=%00%FF;type=private", "pkcs11:id=a", "pkcs11:id=%6", "pkcs11:", "pkcs11:id=a?pin-value=1",
		"pkcs11:id=a;id=b", "pkcs11:object=%C3%A9;id=:[]@", "pkcs11:;;;=", "awskms:x",
	} {
		f.Add(seed)
	}
	o := Options{Token: "stella"}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := o.parse(text)
		if err != nil {
			if fault.KindOf(err) != fault.Input || len(err.Error()) > 200 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if len(text) > maxRef || len(r.id) == 0 || len(r.id) > maxID || len(r.object) > maxName || r.token != "" && r.token != o.Token {
			t.Fatalf("%q accepted as %+v", text, r)
		}
		again, err := o.parse(r.String())
		if err != nil || !bytes.Equal(again.id, r.id) || again.object != r.object || again.token != r.token || again.String() != r.String() {
			t.Fatalf("%q is written as %s and read as %+v, %v", text, r, again, err)
		}
	})
}
