package awskms

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/testenv/fakekms"
)

func sign(ctx context.Context, p *Provider, ref string) error {
	k, err := p.Open(ctx, ref)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(ref))
	sig, err := k.SignDigest(ctx, digest[:])
	if err == nil && !ecdsa.VerifyASN1(k.Public(), digest[:], sig) {
		return fmt.Errorf("it does not verify")
	}
	return err
}

func TestThrottled(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	for _, action := range []string{"GetPublicKey", "Sign"} {
		s.Throttle(action, 1)
		before := s.Calls(action)
		if err := sign(t.Context(), p, ref); err != nil || s.Calls(action) != before+2 {
			t.Errorf("%s throttled once: %v after %d calls", action, err, s.Calls(action)-before)
		}
		s.Throttle(action, -1)
		before = s.Calls(action)
		if err := sign(t.Context(), p, ref); fault.KindOf(err) != fault.Transient || s.Calls(action) != before+attempts {
			t.Errorf("%s throttled: %v after %d calls", action, err, s.Calls(action)-before)
		}
		s.Behave()
	}
}

func TestKinds(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	for _, c := range []struct {
		status int
		code   string
		want   fault.Kind
	}{
		{400, "AccessDeniedException", fault.Denied},
		{400, "UnrecognizedClientException", fault.Denied},
		{400, "ExpiredTokenException", fault.Denied},
		{400, "NotFoundException", fault.NotFound},
		{400, "DisabledException", fault.Order},
		{400, "KMSInvalidStateException", fault.Order},
		{500, "KMSInternalException", fault.Transient},
		{500, "DependencyTimeoutException", fault.Transient},
		{400, "KeyUnavailableException", fault.Transient},
		{503, "Anything", fault.Transient},
		{429, "Anything", fault.Transient},
		{400, "Anything", fault.Unclassified},
	} {
		s.Fail("Sign", -1, fakekms.Failure{Status: c.status, Code: c.code, Message: "because " + strings.Repeat("\x1b[31mé", 50<<10)})
		err := sign(t.Context(), p, ref)
		if fault.KindOf(err) != c.want || len([]rune(err.Error())) > maxText+300 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%d %s: kind %v: %.600v", c.status, c.code, fault.KindOf(err), err)
		}
	}
	s.Behave() // control
	if err := sign(t.Context(), p, ref); err != nil {
		t.Error(err)
	}
}

func TestDenied(t *testing.T) {
	s := start(t)
	for action, needs := range map[string]string{
		"DescribeKey": "kms:DescribeKey", "CreateKey": "kms:CreateKey and kms:TagResource", "CreateAlias": "kms:CreateAlias",
		"GetPublicKey": "kms:GetPublicKey", "Sign": "kms:Sign", "ScheduleKeyDeletion": "kms:ScheduleKeyDeletion",
	} {
		s.Behave()
		p := s.open(t)
		ref := makeKey(t, p, "old")
		s.Deny(action)
		_, err := p.Make(t.Context(), "new")
		if err == nil {
			err = sign(t.Context(), p, ref)
		}
		if err == nil {
			err = p.Destroy(t.Context(), ref)
		}
		if hints := strings.Join(fault.HintsOf(err), "\n"); fault.KindOf(err) != fault.Denied || !strings.Contains(hints, needs+",") {
			t.Errorf("%s: %v, hints %q", action, err, hints)
		}
		s.Behave()
		for _, n := range []string{"old", "new"} {
			if arn := s.Alias(n); arn != "" {
				if err := p.Destroy(t.Context(), "awskms:///"+arn); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A service that repeats the request, whatever the error is called, gets no
// credential into ours.
func TestNoSecretInErrors(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	for _, code := range []string{"AccessDeniedException", "InvalidSignatureException", "KMSInternalException", "NotFoundException", "Other", sessionToken} {
		s.Handle("Sign", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"__type":%q,"message":%q}`, code, "you sent "+r.Header.Get("X-Amz-Security-Token")+" and "+r.Header.Get("Authorization")+secretKey)
		})
		err := sign(t.Context(), p, ref)
		all := fmt.Sprintf("%v %+v %q", err, err, fault.HintsOf(err))
		if err == nil || strings.Contains(all, sessionToken) || strings.Contains(all, secretKey) || strings.Contains(all, accessKey) {
			t.Errorf("%s: %s", code, all)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAI44QH8DHBEXAMPLE")
	if err := sign(t.Context(), s.open(t), ref); fault.KindOf(err) != fault.Denied || strings.Contains(err.Error(), "AKIAI44") {
		t.Errorf("another identity: %v", err)
	}
}

func TestCredentialProcess(t *testing.T) {
	s := start(t)
	ref := makeKey(t, s.open(t), name)
	conf := filepath.Join(t.TempDir(), "config")
	write := func(output string) *Provider {
		if err := os.WriteFile(conf, []byte("[default]\ncredential_process = printf '%s' '"+output+"'\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return s.open(t)
	}
	t.Setenv("AWS_CONFIG_FILE", conf)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SESSION_TOKEN", "")
	whole := `{"Version":1,"AccessKeyId":"` + accessKey + `","SecretAccessKey":"` + secretKey + `","SessionToken":"` + sessionToken + `"}`
	if err := sign(t.Context(), write(whole), ref); err != nil { // control
		t.Errorf("%v", err)
	}
	if err := sign(t.Context(), write(whole[:len(whole)-2]), ref); fault.KindOf(err) != fault.Config || strings.Contains(err.Error(), secretKey) || strings.Contains(err.Error(), sessionToken) {
		t.Errorf("%v", err)
	}
}

func TestHang(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	k := openKey(t, p, ref)
	s.Hang("Sign")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	digest := sha256.Sum256(nil)
	if _, err := k.SignDigest(ctx, digest[:]); fault.KindOf(err) != fault.Transient {
		t.Errorf("%v", err)
	}
}

func spki(t *testing.T, curve elliptic.Curve) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestHostilePublicKey(t *testing.T) {
	s := start(t)
	p := s.open(t)
	good := func(der []byte) string {
		return `{"KeyId":"` + someARN + `","KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY","SigningAlgorithms":["ECDSA_SHA_256"],"PublicKey":"` +
			base64.StdEncoding.EncodeToString(der) + `"}`
	}
	whole := good(spki(t, elliptic.P256()))
	other := strings.Replace(someARN, "1234abcd", "00000000", 1)
	for what, c := range map[string]struct {
		body string
		want fault.Kind
	}{
		"control":        {whole, fault.None},
		"blanks":         {whole + strings.Repeat(" ", maxAnswer-len(whole)), fault.None},
		"too large":      {whole + strings.Repeat(" ", maxAnswer-len(whole)+1), fault.Trust},
		"10 MiB":         {strings.Repeat("x", 10<<20), fault.Trust},
		"10 MiB of JSON": {whole[:len(whole)-1] + `,"x":"` + strings.Repeat("x", 10<<20) + `"}`, fault.Trust},
		"truncated":      {whole[:len(whole)-1], fault.Trust},
		"half":           {whole[:len(whole)/2], fault.Trust},
		"empty":          {"", fault.Trust},
		"empty object":   {"{}", fault.Trust},
		"null":           {"null", fault.Trust},
		"html":           {"<html>", fault.Trust},
		"other type":     {strings.Replace(whole, `"KeySpec":"ECC_NIST_P256"`, `"KeySpec":1`, 1), fault.Trust},
		"no DER":         {good([]byte("no DER")), fault.Trust},
		"no key":         {good(nil), fault.Trust},
		"DER and more":   {good(append(spki(t, elliptic.P256()), 0)), fault.Trust},
		"large DER":      {good(bytes.Repeat([]byte{0x30}, 100<<10)), fault.Trust},
		"P-384":          {good(spki(t, elliptic.P384())), fault.Trust},
		"says P-384":     {strings.Replace(whole, "P256", "P384", 1), fault.Input},
		"for agreement":  {strings.Replace(whole, "SIGN_VERIFY", "KEY_AGREEMENT", 1), fault.Input},
		"SHA-384":        {strings.Replace(whole, "SHA_256", "SHA_384", 1), fault.Input},
		"another key":    {strings.Replace(whole, someARN, other, 1), fault.Trust},
		"a bare id":      {strings.Replace(whole, someARN, someID, 1), fault.Trust},
		"no id":          {strings.Replace(whole, "KeyId", "Keyid", 1), fault.Trust},
	} {
		s.Handle("GetPublicKey", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.body) })
		_, err := p.Open(t.Context(), someRef)
		if fault.KindOf(err) != c.want || err != nil && len(err.Error()) > 600 {
			t.Errorf("%s: kind %v, want %v: %.600v", what, fault.KindOf(err), c.want, err)
		}
	}
}

func TestHostileAnswers(t *testing.T) {
	s := start(t)
	p := s.open(t)
	var elsewhere atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer trap.Close()
	for what, c := range map[string]struct {
		answer http.HandlerFunc
		want   fault.Kind
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, trap.URL, http.StatusTemporaryRedirect)
		}, fault.Trust},
		"proxy": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) }, fault.Transient},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "{")
			panic(http.ErrAbortHandler)
		}, fault.Transient},
		"error of 10 MiB": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, strings.Repeat("x", 10<<20))
		}, fault.Trust},
	} {
		s.Handle("GetPublicKey", c.answer)
		_, err := p.Open(t.Context(), someRef)
		if fault.KindOf(err) != c.want || len(err.Error()) > 600 {
			t.Errorf("%s: kind %v, want %v: %.600v", what, fault.KindOf(err), c.want, err)
		}
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestAnotherKeySigns(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	k := openKey(t, p, ref)
	digest := sha256.Sum256(nil)
	s.AnswerKey(someARN)
	if _, err := k.SignDigest(t.Context(), digest[:]); fault.KindOf(err) != fault.Trust || !strings.Contains(err.Error(), someARN) {
		t.Errorf("an answer about another key: %v", err)
	}
	s.Behave() // control
	if err := sign(t.Context(), p, ref); err != nil {
		t.Error(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.SignAs(other)
	if err := sign(t.Context(), p, ref); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("another key's signature is not to be seen: %v", err)
	}
	s.Behave()
	for _, n := range []int{0, 31, 33} {
		if _, err := k.SignDigest(t.Context(), make([]byte, n)); err == nil {
			t.Errorf("a digest of %d bytes was signed", n)
		}
	}
	for what, c := range map[string]struct {
		sig []byte
		alg string
		ok  bool
	}{
		"control": {make([]byte, 70), "ECDSA_SHA_256", true},
		"none":    {nil, "ECDSA_SHA_256", false},
		"long":    {make([]byte, maxSignature+1), "ECDSA_SHA_256", false},
		"another": {make([]byte, 70), "ECDSA_SHA_384", false},
	} {
		s.Handle("Sign", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"KeyId":%q,"SigningAlgorithm":%q,"Signature":%q}`, strings.TrimPrefix(ref, "awskms:///"), c.alg, base64.StdEncoding.EncodeToString(c.sig))
		})
		if _, err := k.SignDigest(t.Context(), digest[:]); (err == nil) != c.ok || !c.ok && fault.KindOf(err) != fault.Trust {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An answer about what was made is checked like any other.
func TestHostileMetadata(t *testing.T) {
	s := start(t)
	p := s.open(t)
	for _, arn := range []string{someARN, "", "x", someID, strings.Replace(someARN, region, "us-east-1", 1), strings.Replace(someARN, "key/", "alias/", 1), someARN + strings.Repeat("0", 10<<10)} {
		for _, action := range []string{"DescribeKey", "CreateKey"} {
			s.Behave()
			s.Handle(action, func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"KeyMetadata":{"KeyId":%q,"Arn":%q,"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY","KeyState":"Enabled","Origin":"AWS_KMS"}}`, someID, arn)
			})
			s.Handle("CreateAlias", func(http.ResponseWriter, *http.Request) {})
			ref, err := p.Make(t.Context(), name)
			if arn == someARN { // control
				if ref != someRef || err != nil {
					t.Errorf("%s: %q, %v", action, ref, err)
				}
			} else if fault.KindOf(err) != fault.Trust || len(err.Error()) > 600 {
				t.Errorf("%s with %.100q: %q, %.600v", action, arn, ref, err)
			}
		}
	}
}
