package revoke_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/mint"
	"github.com/stella-ops/stella/internal/authority/problem"
	"github.com/stella-ops/stella/internal/authority/revoke"
	"github.com/stella-ops/stella/internal/authority/wire"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
)

func TestList(t *testing.T) {
	g := newRig(t)
	add(t, g.register, token("j"))
	resp, body := g.do("GET", revoke.PathList, "", nil)
	h := resp.Header
	if resp.StatusCode != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "public, max-age=300, must-revalidate" || h.Get("ETag") == "" {
		t.Fatalf("%d %v", resp.StatusCode, h)
	}
	d, err := revocation.ParseDocument(body)
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.Verify(t.Context(), g.key)
	if err != nil || len(v.Bundle.Revocations) != 1 {
		t.Fatal(v, err)
	}
	same := map[string]string{"If-None-Match": h.Get("ETag")}
	if resp, body := g.do("GET", revoke.PathList, "", same); resp.StatusCode != 304 || len(body) != 0 || resp.Header.Get("Cache-Control") == "" {
		t.Errorf("unchanged: %d", resp.StatusCode)
	}
	add(t, g.register, token("k"))
	if resp, _ := g.do("GET", revoke.PathList, "", same); resp.StatusCode != 200 || resp.Header.Get("ETag") == h.Get("ETag") {
		t.Errorf("changed: %d", resp.StatusCode)
	}
	g.maxAge = 0
	if resp, _ := g.do("GET", revoke.PathList, "", nil); resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("without lifetime: %v", resp.Header)
	}
	g.store.list, g.store.record = true, true
	g.pass(time.Second)
	if resp, _ := g.do("GET", revoke.PathList, "", nil); resp.StatusCode != 503 || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("store down: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestExportCall(t *testing.T) {
	g := newRig(t)
	operator := map[string]string{"Authorization": "Bearer " + revoke.ScopeManage}
	resp, body := g.do("GET", revoke.PathExport, "", operator)
	if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if r := g.audited(); r.Type != audit.TypeRevocationRead || r.Outcome != audit.Success {
		t.Errorf("audited as %+v", r)
	}
	_, public := g.do("GET", revoke.PathList, "", nil)
	if !bytes.Equal(body, public) {
		t.Error("not the same document as the public one")
	}
	if resp, _ := g.do("GET", revoke.PathExport, "", nil); resp.StatusCode != 401 {
		t.Errorf("nobody: %d", resp.StatusCode)
	}
	if r := g.audited(); r.Outcome != audit.Failure {
		t.Errorf("nobody: audited as %+v", r)
	}
	// Another replica's addition is seen at once.
	add(t, g.site.register(), token("j"))
	if _, after := g.do("GET", revoke.PathExport, "", operator); bytes.Equal(after, body) {
		t.Error("the export is an old one")
	}
	g.audited()
}

func TestAddCall(t *testing.T) {
	g := newRig(t)
	const good = `{"category":"subject","id":"u","reason":"account_disabled"}`
	header := func(change map[string]string) map[string]string {
		h := map[string]string{"Authorization": "Bearer " + revoke.ScopeManage, "Content-Type": "application/json"}
		for name, value := range change {
			h[name] = value
		}
		return h
	}
	for name, row := range map[string]struct {
		body   string
		header map[string]string
		status int
	}{
		"nobody":           {good, header(map[string]string{"Authorization": ""}), 401},
		"content type":     {good, header(map[string]string{"Content-Type": "text/plain"}), 400},
		"no JSON":          {"x", header(nil), 400},
		"unknown member":   {`{"category":"subject","id":"u","reason":"x","sub":"u"}`, header(nil), 400},
		"member twice":     {`{"category":"subject","id":"u","id":"v","reason":"x"}`, header(nil), 400},
		"no reason":        {`{"category":"subject","id":"u"}`, header(nil), 400},
		"key":              {`{"category":"key","id":"k1","reason":"x"}`, header(nil), 400},
		"token, no client": {`{"category":"token","id":"j","reason":"x"}`, header(nil), 400},
		"too large":        {`{"reason":"` + strings.Repeat("x", 17<<10) + `"}`, header(nil), 400},
	} {
		resp, body := g.do("POST", revoke.PathAdd, row.body, row.header)
		if resp.StatusCode != row.status || !strings.Contains(string(body), `"trace_id":"rid"`) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		if r := g.audited(); r.Type != audit.TypeRevocation || r.Outcome != audit.Failure {
			t.Errorf("%s: audited as %+v", name, r)
		}
	}
	if v := g.export(g.register); len(v.Bundle.Revocations) != 0 {
		t.Errorf("refused, and on the list: %q", ids(v))
	}
	for i, want := range []int{201, 200} {
		resp, body := g.do("POST", revoke.PathAdd, good, header(nil))
		if resp.StatusCode != want || string(body) != map[int]string{201: "{\"created\":true}\n", 200: "{\"created\":false}\n"}[want] {
			t.Errorf("call %d: %d %s", i, resp.StatusCode, body)
		}
		r := g.audited()
		if r.Outcome != audit.Success || r.Subject.ID.String() != "u" || !strings.Contains(string(r.AppendJSON(nil)), "client:ops") {
			t.Errorf("audited as %s", r.AppendJSON(nil))
		}
	}
	if !isRevoked(t, g.register, revocation.Claims{Subject: "u", IssuedAt: g.clock()}) {
		t.Error("not in effect")
	}
	for _, body := range []string{
		`{"category":"client","id":"c","reason":"x"}`,
		`{"category":"token","id":"j","client_id":"c","reason":"x","expires_at":"2026-11-22T04:01:00Z"}`,
	} {
		if resp, answer := g.do("POST", revoke.PathAdd, body, header(nil)); resp.StatusCode != 201 {
			t.Errorf("%s: %d %s", body, resp.StatusCode, answer)
		}
		g.audited()
	}
	g.store.insert = true
	if resp, _ := g.do("POST", revoke.PathAdd, `{"category":"client","id":"d","reason":"x"}`, header(nil)); resp.StatusCode != 503 {
		t.Errorf("store down: %d", resp.StatusCode)
	}
	if r := g.audited(); r.Outcome != audit.Error {
		t.Errorf("store down: audited as %+v", r)
	}
}

// RFC 7009: a client's own token is revoked, everything else is left alone and
// gets the same answer.
func TestRevoke(t *testing.T) {
	g := newRig(t)
	own, foreign := g.accessToken("own", "c", nil), g.accessToken("foreign", "d", nil)
	stranger := newSite(t)
	forged := (&rig{site: stranger}).accessToken("forged", "c", nil)
	var refreshed []string
	g.refresh = func(_ context.Context, token, clientID string) error {
		refreshed = append(refreshed, clientID+" "+token)
		if token == "rt-own" {
			return nil
		}
		return errors.Join(revoke.ErrNotOurs, errors.New("unknown"))
	}
	for name, row := range map[string]struct {
		token   string
		revoked string // jti
		outcome audit.Outcome
	}{
		"its own":       {own, "own", audit.Success},
		"O17 foreign":   {foreign, "", audit.Failure},
		"forged":        {forged, "", audit.Failure},
		"expired":       {g.accessToken("expired", "c", func(c map[string]any) { c["exp"] = g.clock().Add(-skew).Unix() }), "", audit.Failure},
		"other issuer":  {g.accessToken("other", "c", func(c map[string]any) { c["iss"] = issuer + "/" }), "", audit.Failure},
		"no jti":        {g.accessToken("", "c", nil), "", audit.Failure},
		"nonsense":      {"nonsense", "", audit.Failure},
		"dots":          {"a.b.c", "", audit.Failure},
		"refresh token": {"rt-own", "", audit.Success},
	} {
		resp, body := g.giveBack(row.token, "c")
		if resp.StatusCode != 200 || string(body) != "{}\n" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		if r := g.audited(); r.Type != audit.TypeRevoke || r.Outcome != row.outcome || r.Client.ID.String() != "c" {
			t.Errorf("%s: audited as %s", name, r.AppendJSON(nil))
		}
		for _, jti := range []string{"foreign", "forged", "expired", "other"} {
			if isRevoked(t, g.register, revocation.Claims{TokenID: jti, IssuedAt: g.clock()}) {
				t.Errorf("%s: %s is revoked", name, jti)
			}
		}
		if row.revoked != "" && !isRevoked(t, g.register, revocation.Claims{TokenID: row.revoked, IssuedAt: g.clock()}) {
			t.Errorf("%s: not revoked", name)
		}
	}
	if got := strings.Join(refreshed, ","); strings.Contains(got, own) || strings.Contains(got, foreign) || !strings.Contains(got, "c rt-own") {
		t.Errorf("asked as refresh tokens: %s", got)
	}
	v := g.export(g.register)
	if len(v.Bundle.Revocations) != 1 || v.Bundle.Revocations[0].SubjectID != "" || v.Bundle.Revocations[0].Reason != revoke.ReasonClient {
		t.Errorf("on the list: %+v", v.Bundle.Revocations)
	}
	// Its entry leaves the list when the token has expired, not when the
	// longest possible one has.
	g.pass(time.Minute + skew + time.Minute + time.Second)
	if v := g.export(g.register); len(v.Bundle.Revocations) != 0 {
		t.Errorf("after its end: %q", ids(v))
	}
}

func TestRevokeRefuses(t *testing.T) {
	g := newRig(t)
	own := g.accessToken("own", "c", nil)
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for name, row := range map[string]struct {
		body   string
		header map[string]string
		status int
		code   string
	}{
		"wrong secret": {"client_id=c&client_secret=wrong&token=" + own, form, 401, wire.InvalidClient},
		"no token":     {"client_id=c&client_secret=right", form, 400, wire.InvalidRequest},
		"token twice":  {"client_id=c&client_secret=right&token=a&token=b", form, 400, wire.InvalidRequest},
		"content type": {"{}", map[string]string{"Content-Type": "application/json"}, 400, wire.InvalidRequest},
	} {
		resp, body := g.do("POST", revoke.PathRevoke, row.body, row.header)
		if resp.StatusCode != row.status || !strings.Contains(string(body), `"error":"`+row.code+`"`) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		if r := g.audited(); r.Outcome != audit.Failure {
			t.Errorf("%s: audited as %s", name, r.AppendJSON(nil))
		}
	}
	if isRevoked(t, g.register, revocation.Claims{TokenID: "own", IssuedAt: g.clock()}) {
		t.Error("revoked by a refused request")
	}
	g.store.insert = true
	if resp, _ := g.giveBack(own, "c"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("store down: %d", resp.StatusCode)
	}
	if r := g.audited(); r.Outcome != audit.Error {
		t.Errorf("store down: audited as %s", r.AppendJSON(nil))
	}
	if resp, _ := g.do("GET", revoke.PathRevoke, "", nil); resp.StatusCode != 405 {
		t.Errorf("GET: %d", resp.StatusCode)
	}
}

// Keys that cannot be read now are no verdict on a token.
func TestReaderKeysDown(t *testing.T) {
	g := newRig(t)
	down := errors.New("down")
	r := &mint.Reader{Issuer: issuer, Skew: skew, Now: g.clock, Keys: func(context.Context, string) (jose.Key, error) { return jose.Key{}, down }}
	if _, err := revoke.ReadAccess(t.Context(), r, g.accessToken("j", "c", nil)); !errors.Is(err, down) || errors.Is(err, revoke.ErrNotOurs) {
		t.Error(err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"category":"subject","id":"u","reason":"account_disabled"}`))
	f.Add([]byte(`{"category":"token","id":"j","client_id":"c","reason":"x","expires_at":"2026-11-22T04:01:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := revoke.ParseRequest(data)
		if err != nil {
			if problem.From(err).Code != problem.Invalid {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		// What is accepted is stored and handed out, or refused as input.
		s := newSite(t)
		r := s.register()
		created, err := r.Add(t.Context(), q.Entry())
		if err != nil {
			if problem.From(err).Code != problem.Invalid {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if v := s.export(r); created != (len(v.Bundle.Revocations) == 1) {
			t.Fatalf("%q: %v, list %q", data, created, ids(v))
		}
	})
}
