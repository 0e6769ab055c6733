package awskms

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/testenv/fakekms"
)

func TestAdopt(t *testing.T) {
	s := start(t)
	p := s.open(t)
	for what, c := range map[string]struct {
		key  fakekms.Key
		want fault.Kind
		word string
	}{
		"good":          {fakekms.Key{}, fault.None, ""},
		"hsm":           {fakekms.Key{Origin: "AWS_CLOUDHSM"}, fault.None, ""},
		"imported":      {fakekms.Key{Origin: "EXTERNAL"}, fault.Input, "EXTERNAL"},
		"elsewhere":     {fakekms.Key{Origin: "EXTERNAL_KEY_STORE"}, fault.Input, "EXTERNAL_KEY_STORE"},
		"p384":          {fakekms.Key{Spec: "ECC_NIST_P384"}, fault.Input, "ECC_NIST_P384"},
		"key agreement": {fakekms.Key{Usage: "KEY_AGREEMENT"}, fault.Input, "KEY_AGREEMENT"},
		"disabled":      {fakekms.Key{State: "Disabled"}, fault.Order, "disabled"},
		"pending":       {fakekms.Key{State: "PendingDeletion"}, fault.Order, "deleted"},
		"import":        {fakekms.Key{State: "PendingImport"}, fault.Order, "PendingImport"},
		"creating":      {fakekms.Key{State: "Creating"}, fault.Transient, "not ready"},
	} {
		ref := "awskms:///" + s.add(t, c.key)
		pinned, err := p.Adopt(t.Context(), ref)
		if fault.KindOf(err) != c.want || (err == nil) != (pinned == ref) {
			t.Errorf("%s: %q, %v", what, pinned, err)
		}
		if err == nil {
			if err := sign(t.Context(), p, pinned); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		} else if !strings.Contains(err.Error(), c.word) || !strings.Contains(err.Error(), ref[len("awskms:///"):]) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAdoptFails(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := "awskms:///" + s.add(t, fakekms.Key{})
	if _, err := p.Adopt(t.Context(), ref); err != nil { // control
		t.Fatal(err)
	}
	if _, err := p.Adopt(t.Context(), someRef); fault.KindOf(err) != fault.NotFound || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for code, want := range map[string]fault.Kind{
		"AccessDeniedException": fault.Denied, "ExpiredTokenException": fault.Denied,
		"ThrottlingException": fault.Transient, "KMSInternalException": fault.Transient,
	} {
		s.Fail("DescribeKey", -1, fakekms.Failure{Code: code})
		if _, err := p.Adopt(t.Context(), ref); fault.KindOf(err) != want {
			t.Errorf("%s: %v, want %v", code, err, want)
		}
	}
	s.Behave()
	for _, body := range []string{`{}`, `{"KeyMetadata":{}}`, fmt.Sprintf(`{"KeyMetadata":{"Arn":%q,"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY","KeyState":"Enabled","Origin":"AWS_KMS"}}`, someARN)} {
		s.Handle("DescribeKey", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		if _, err := p.Adopt(t.Context(), ref); fault.KindOf(err) != fault.Trust {
			t.Errorf("an answer about another key, %s: %v", body, err)
		}
		if _, err := p.Adopt(t.Context(), someRef); (err == nil) != strings.Contains(body, someARN) { // control
			t.Errorf("%s: %v", body, err)
		}
	}
}

// A CreateKey that takes longer than usual is waited for: given up, it would
// leave a key that no name leads to.
func TestCreateKeyAnswersLate(t *testing.T) {
	const impatient = 300 * time.Millisecond
	for what, c := range map[string]struct {
		within time.Duration
		want   fault.Kind
		named  bool
	}{
		"waited for": {0, fault.None, true},
		"given up":   {impatient, fault.Transient, false}, // control: what then stays
	} {
		t.Run(what, func(t *testing.T) {
			s := start(t)
			p, err := Open(t.Context(), Options{Region: region, Endpoint: s.URL, CAFile: s.ca.CertFile, answerWithin: c.within})
			if err != nil {
				t.Fatal(err)
			}
			s.After("CreateKey", func() { <-time.After(2 * impatient) })
			ref, err := p.Make(t.Context(), name)
			if fault.KindOf(err) != c.want || (ref != "") != c.named {
				t.Errorf("%q, %v", ref, err)
			}
			if keys := s.Keys(); len(keys) != 1 || (s.Alias(name) == keys[0].ARN) != c.named || s.Calls("CreateKey") != 1 {
				t.Errorf("%d calls, the name is of %q, keys %+v", s.Calls("CreateKey"), s.Alias(name), keys)
			}
		})
	}
	if answerWithin < 30*time.Second { // the deadline of keyring's Make
		t.Errorf("an attempt is given up after %s", answerWithin)
	}
}
