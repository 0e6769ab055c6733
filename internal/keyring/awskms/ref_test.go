package awskms

import (
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

func TestParseRef(t *testing.T) {
	for _, arn := range []string{
		someARN, multiARN, strings.Replace(someARN, "arn:aws:", "arn:aws-cn:", 1), strings.Replace(someARN, "arn:aws:", "arn:aws-us-gov:", 1),
		strings.Replace(someARN, region, "ap-southeast-4", 1),
	} {
		if got, err := parseRef("awskms:///" + arn); err != nil || string(got) != arn || got.ref() != "awskms:///"+arn {
			t.Errorf("%s: %s, %v", arn, got, err)
		}
	}
	identity(t)
	p, err := Open(t.Context(), Options{Region: region})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range malformedRefs() {
		if _, err := p.mine(bad); err == nil || len(fault.HintsOf(err)) == 0 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for ref, why := range map[string]string{
		"awskms:///alias/stella": "alias", "awskms:///" + someID: "bare", "awskms://h/" + someARN: "host", strings.Repeat("x", 1<<20): "longer",
	} {
		if _, err := parseRef(ref); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), why) || len(err.Error()) > 400 {
			t.Errorf("%.60q: %.500v", ref, err)
		}
	}
	if _, err := p.mine(strings.Replace(someRef, region, "us-east-1", 1)); fault.KindOf(err) != fault.Config {
		t.Errorf("another region: %v", err)
	}
}

// FuzzRef: what is accepted has one spelling, and its parts are what they seem.
func FuzzRef(f *testing.F) {
	for _, seed := range append(malformedRefs(), someRef, "awskms:///"+multiARN) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		arn, err := parseRef(ref)
		if err != nil {
			if fault.KindOf(err) != fault.Input || len(err.Error()) > 4000 {
				t.Fatalf("%q: %v", ref, err)
			}
			return
		}
		if arn.ref() != ref || len(ref) > maxRef || strings.ContainsAny(ref, "@?#%\\ \n\x00") || ref != strings.ToLower(ref) {
			t.Fatalf("%q accepted as %q", ref, arn)
		}
		if id := arn.id(); !validID(id) || !strings.HasSuffix(ref, ":key/"+id) || strings.ContainsAny(arn.region(), "./:") {
			t.Fatalf("%q has id %q and region %q", ref, id, arn.region())
		}
	})
}

// FuzzPublic: an accepted key is on P-256 and nothing panics.
func FuzzPublic(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04"))
	f.Fuzz(func(t *testing.T, der []byte) {
		pub, err := parsePublic(der)
		if err != nil {
			if len(err.Error()) > 2000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if _, err := pub.ECDH(); err != nil {
			t.Fatalf("a key that is not on the curve: %v", err)
		}
	})
}

// FuzzClean: whatever the service says, an error repeats a short printable line
// of it and no secret.
func FuzzClean(f *testing.F) {
	f.Add("Rate exceeded")
	f.Add("a\x00\x1b[2Jb" + secretKey + strings.Repeat("é", 500) + "\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := clean(text, secretKey, "", sessionToken)
		if len([]rune(got)) > maxText+1 || strings.ContainsAny(got, "\n\r\x00\x1b") || strings.Contains(got, secretKey) || strings.Contains(got, sessionToken) {
			t.Fatalf("%q became %q", text, got)
		}
	})
}
