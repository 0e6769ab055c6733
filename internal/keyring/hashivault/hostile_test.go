package hashivault_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring/hashivault"
	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/fakevault"
)

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

// described is the answer about key k after a change of its data.
func described(t *testing.T, s *fakevault.Server, change func(data map[string]any)) string {
	t.Helper()
	data := admin(t, s, "GET", "keys/k", nil)
	change(data)
	body, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestHostileKey(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	admin(t, s, "POST", "keys/p384", map[string]any{"type": "ecdsa-p384"})
	p384 := admin(t, s, "GET", "keys/p384", nil)["keys"].(map[string]any)["1"].(map[string]any)["public_key"].(string)
	same := described(t, s, func(map[string]any) {})
	public := func(edit func(pem string) any) http.HandlerFunc {
		return says(described(t, s, func(data map[string]any) {
			one := data["keys"].(map[string]any)["1"].(map[string]any)
			one["public_key"] = edit(one["public_key"].(string))
		}))
	}
	set := func(name string, value any) http.HandlerFunc {
		return says(described(t, s, func(data map[string]any) { data[name] = value }))
	}
	pad := func(n int) http.HandlerFunc {
		return says(`{"pad":"` + strings.Repeat("x", n) + `",` + strings.TrimPrefix(same, "{"))
	}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		kind fault.Kind
	}{
		"the true answer": {says(same), fault.None},
		"half a MiB":      {pad(1 << 19), fault.None},
		"10 MiB":          {pad(10 << 20), fault.Config},
		"truncated JSON":  {says(same[:len(same)/2]), fault.Config},
		"two answers":     {says(same + same), fault.Config},
		"a web page":      {says("<html>welcome</html>"), fault.Config},
		"nothing":         {says(""), fault.Config},
		"no data":         {says(`{"errors":[]}`), fault.Config},
		"data of a kind":  {says(`{"data":[1]}`), fault.Config},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("{"))
		}, fault.Transient},
		"another type":       {set("type", "rsa-2048"), fault.Trust},
		"derived":            {set("derived", true), fault.Trust},
		"versions as text":   {set("min_encryption_version", "1"), fault.Config},
		"a number for a key": {set("keys", map[string]any{"1": 1442851412}), fault.Trust},
		"PEM and more":       {public(func(pem string) any { return pem + pem }), fault.Trust},
		"a certificate":      {public(func(pem string) any { return strings.ReplaceAll(pem, "PUBLIC KEY", "CERTIFICATE") }), fault.Trust},
		"no PEM":             {public(func(string) any { return "AAAA" }), fault.Trust},
		"PEM of nothing":     {public(func(string) any { return "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" }), fault.Trust},
		"another curve":      {public(func(string) any { return p384 }), fault.Trust},
		"10 MiB of error":    {status(400, strings.Repeat("x", 10<<20)), fault.Config},
		"204":                {status(204, ""), fault.Config},
		"206":                {status(206, same), fault.Config},
		"405":                {status(405, `{"errors":["unsupported operation"]}`), fault.Config},
		"404 of a gateway":   {status(404, `{"message":"no such route"}`), fault.Config},
		"404 of a web page":  {status(404, "not found"), fault.Config},
	} {
		s.Take(c.h)
		_, err := p.Open(t.Context(), ref)
		wantKind(t, name, err, c.kind)
		if c.kind != fault.None && errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: taken for a missing key: %v", name, err)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	s.Take(status(404, `{"errors":[]}`))
	if _, err := p.Open(t.Context(), ref); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing key: %v", err)
	}
}

func TestHostileSignature(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	key := opened(t, p, made(t, p, "k"))
	admin(t, s, "POST", "keys/k/rotate", nil)
	in := map[string]any{"input": base64.StdEncoding.EncodeToString(digest[:]), "prehashed": true, "key_version": 1}
	good := admin(t, s, "POST", "sign/k/sha2-256", in)["signature"].(string)
	raw := strings.TrimPrefix(good, "vault:v1:")
	in["key_version"] = 2
	second := admin(t, s, "POST", "sign/k/sha2-256", in)["signature"].(string)
	for name, c := range map[string]struct {
		sig  any
		kind fault.Kind
	}{
		"the true one":      {good, fault.None},
		"another version":   {second, fault.Trust},
		"version renamed":   {"vault:v2:" + raw, fault.Trust},
		"version 01":        {"vault:v01:" + raw, fault.Trust},
		"version 0":         {"vault:v0:" + raw, fault.Trust},
		"no version":        {"vault:v:" + raw, fault.Trust},
		"no prefix":         {raw, fault.Trust},
		"another prefix":    {"bao:v1:" + raw, fault.Trust},
		"not base64":        {"vault:v1:!!!!", fault.Trust},
		"with a line end":   {"vault:v1:" + raw[:8] + "\n" + raw[8:], fault.Trust},
		"base64url, no pad": {"vault:v1:_-_-", fault.Trust},
		"nothing":           {"vault:v1:", fault.Trust},
		"empty":             {"", fault.Trust},
		"none":              {nil, fault.Trust},
		"too long":          {"vault:v1:" + strings.Repeat("AAAA", 100), fault.Trust},
		"a number":          {1, fault.Config},
	} {
		body, err := json.Marshal(map[string]any{"data": map[string]any{"signature": c.sig, "key_version": 1}})
		if err != nil {
			t.Fatal(err)
		}
		s.Take(says(string(body)))
		_, err = key.SignDigest(t.Context(), digest[:])
		wantKind(t, name, err, c.kind)
	}
	s.Take(says(`{"data":{"signature":"` + good))
	_, err := key.SignDigest(t.Context(), digest[:])
	wantKind(t, "truncated", err, fault.Config)

	// A signature by another key is well formed: the caller finds it out.
	s.Take(nil)
	s.Forge(true)
	if verifies(t, key) {
		t.Error("a forged signature verifies")
	}
	s.Forge(false)
	if !verifies(t, key) {
		t.Error("the control does not verify")
	}
}

// TestRedirect: neither the token nor the digest goes to another host.
func TestRedirect(t *testing.T) {
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := fakevault.Start(t.Context(), ca)
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int32
	other, err := testenv.Serve(t.Context(), ca, "other", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, hashivault.Options{Address: s.URL, CAFile: s.CAFile, Token: tokenFile(t, s.Token())})
	ref := made(t, p, "k")
	key := opened(t, p, ref)
	for _, code := range []int{301, 302, 303, 307, 308} {
		s.Take(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other+r.URL.Path, code) })
		_, err := p.Open(t.Context(), ref)
		wantKind(t, "open", err, fault.Config)
		_, err = key.SignDigest(t.Context(), digest[:])
		wantKind(t, "sign", err, fault.Config)
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
	resp, err := ca.Client().Get(s.URL) // a client that follows
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if reached.Load() != 1 {
		t.Error("the control was not redirected")
	}
	s.Take(nil)
	if !verifies(t, key) {
		t.Error("without the redirect it does not sign")
	}
}

// TestEcho: a server that repeats the token, at length and with control
// characters, does not get it into an error.
func TestEcho(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	for _, code := range []int{400, 403, 404, 500, 503} {
		for name, pattern := range map[string]string{"JSON": `{"errors":["\u001b[31mTOKEN TOKEN","LONG TOKEN"]}`, "text": "\x1b[31mTOKEN\x00LONG TOKEN"} {
			s.Take(func(w http.ResponseWriter, r *http.Request) {
				pattern := strings.ReplaceAll(pattern, "LONG", strings.Repeat("y", 5000))
				status(code, strings.ReplaceAll(pattern, "TOKEN", r.Header.Get("X-Vault-Token")))(w, r)
			})
			_, err := p.Open(t.Context(), ref)
			if err == nil {
				t.Fatalf("%d: accepted", code)
			}
			text := err.Error()
			if strings.Contains(text, s.Token()) || strings.ContainsAny(text, "\x1b\x00\n") || strings.Count(text, "y") > 220 {
				t.Errorf("%d, %s: %q", code, name, text)
			}
			if !strings.Contains(text, "[token]") {
				t.Errorf("%d, %s: the control, the server's words, is not in %q", code, name, text)
			}
		}
	}
}

// TestRetry: one passing failure is not seen, and the server does not say how
// long to wait.
func TestRetry(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	s.Take(func(w http.ResponseWriter, r *http.Request) {
		s.Take(nil)
		w.Header().Set("Retry-After", "3600")
		status(503, `{"errors":["Vault is sealed"]}`)(w, r)
	})
	if !verifies(t, opened(t, p, ref)) {
		t.Error("it does not sign")
	}
	// A POST on a broken connection, which net/http does not try again.
	key, tried := opened(t, p, ref), s.Calls("POST sign/k/sha2-256")
	s.Take(func(http.ResponseWriter, *http.Request) {
		s.Take(nil)
		panic(http.ErrAbortHandler)
	})
	if !verifies(t, key) || s.Calls("POST sign/k/sha2-256") != tried+2 {
		t.Error("a broken connection was not tried again")
	}
	calls := s.Calls("GET keys/k")
	s.Deny("transit/")
	if _, err := p.Open(t.Context(), ref); err == nil || s.Calls("GET keys/k") != calls+1 {
		t.Errorf("a refusal was tried %d times: %v", s.Calls("GET keys/k")-calls, err)
	}
}
