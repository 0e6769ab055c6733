package device_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority/clients"
	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/wire"
)

func TestBegin(t *testing.T) {
	s := newSite(t)
	d := s.begin()
	if d.Page != s.url+"/device" || d.Complete != s.url+"/device?user_code="+d.UserCode || d.ExpiresIn != 900 || d.Interval != 5 {
		t.Errorf("%+v", d)
	}
	if _, err := s.check(d); !errors.Is(err, device.ErrPending) {
		t.Error(err)
	}
	if got, n := s.audit.last(); got != "authority.device.authorize Success" || n != 1 {
		t.Error(got, n)
	}
	// Nothing that could be used is in the store: the device code only as its
	// digest.
	for _, kind := range store.Kinds() {
		all, err := s.store.List(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			if strings.Contains(r.ID+string(r.Data), d.DeviceCode) {
				t.Errorf("%s %s holds the device code", kind, r.ID)
			}
		}
	}
}

const thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" // RFC 9449 section 6.1

// Each row differs from the control in one thing.
func TestBeginRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		params url.Values
		header string // content type
		change func(*clients.Client)
		status int
		code   string
	}{
		"control":             {status: 200},
		"control: binding":    {params: url.Values{"dpop_jkt": {thumbprint}}, status: 200},
		"control: one tenant": {params: url.Values{"tenant": {"acme"}}, status: 200},
		"control: some scope": {params: url.Values{"scope": {"findings:read"}}, status: 200},
		"unknown client":      {params: url.Values{"client_id": {"x"}}, status: 401, code: wire.InvalidClient},
		"another scope":       {params: url.Values{"scope": {"root"}}, status: 400, code: wire.InvalidScope},
		"scope twice":         {params: url.Values{"scope": {"findings:read", "findings:read"}}, status: 400, code: wire.InvalidRequest},
		"another grant":       {change: func(c *clients.Client) { c.Grants = []string{clients.GrantCredentials} }, status: 400, code: wire.UnauthorizedClient},
		"no grant":            {change: func(c *clients.Client) { c.Grants = nil }, status: 400, code: wire.UnauthorizedClient},
		"short thumbprint":    {params: url.Values{"dpop_jkt": {thumbprint[1:]}}, status: 400, code: wire.InvalidRequest},
		"padded thumbprint":   {params: url.Values{"dpop_jkt": {thumbprint + "="}}, status: 400, code: wire.InvalidRequest},
		"second spelling":     {params: url.Values{"dpop_jkt": {thumbprint[:42] + "J"}}, status: 400, code: wire.InvalidRequest},
		"JSON":                {header: "application/json", status: 400, code: wire.InvalidRequest},
	} {
		s := newSite(t)
		if row.change != nil {
			row.change(s.client)
		}
		form := url.Values{"client_id": {"stella-cli"}}
		for k, v := range row.params {
			form[k] = v
		}
		v := s.visitor()
		if row.header != "" {
			v.header.Set("Content-Type", row.header)
		}
		a := v.post(device.PathAuthorization, form)
		var doc struct{ Error string }
		if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != row.status || doc.Error != row.code {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be cached", name)
		}
		all, err := s.store.List(t.Context(), store.DeviceCodes)
		if want := map[bool]int{true: 2, false: 0}[row.status == 200]; err != nil || len(all) != want {
			t.Errorf("%s: %d records", name, len(all))
		}
		outcome := map[bool]string{true: "Success", false: "Failure"}[row.status == 200]
		if got, n := s.audit.last(); got != "authority.device.authorize "+outcome || n != 1 {
			t.Errorf("%s: %s, %d audit records", name, got, n)
		}
	}
	s := newSite(t)
	if a := s.visitor().get(device.PathAuthorization); a.status != 405 {
		t.Errorf("GET: %d", a.status)
	}
}

// What cannot be stored is not handed out, wherever the store fails.
func TestBeginStoreAway(t *testing.T) {
	s := newSite(t)
	for _, prefix := range []string{"user/", ""} {
		for _, persist := range []bool{false, true} {
			s.store.set(persist, func(op string, kind store.Kind, id string) bool {
				return op == "insert" && kind == store.DeviceCodes && strings.HasPrefix(id, "user/") == (prefix != "")
			})
			a := s.visitor().post(device.PathAuthorization, url.Values{"client_id": {"stella-cli"}})
			if a.status != 503 || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "device_code") || strings.Contains(a.body, "away") {
				t.Errorf("%d %s", a.status, a.body)
			}
			if got, _ := s.audit.last(); got != "authority.device.authorize Error" {
				t.Error(got)
			}
		}
	}
	s.store.set(false, nil)
	s.begin()
}

// A user code that is taken is not handed out again.
func TestUserCodeClash(t *testing.T) {
	s, clashes := newSite(t), 0
	var first string
	s.store.Records = &clashing{s.store.Records, &clashes, &first}
	d := s.begin()
	if clashes != 3 || strings.ReplaceAll(d.UserCode, "-", "") == strings.TrimPrefix(first, "user/") {
		t.Errorf("%d clashes, %s after %s", clashes, d.UserCode, first)
	}
	clashes = -100
	if a := s.visitor().post(device.PathAuthorization, url.Values{"client_id": {"stella-cli"}}); a.status != 503 {
		t.Errorf("without an end: %d", a.status)
	}
}

// FuzzBegin: whatever is sent gets a well-formed answer with a status that
// belongs to it.
func FuzzBegin(f *testing.F) {
	s := newSite(f)
	f.Add("client_id=stella-cli&scope=findings:read&dpop_jkt="+thumbprint, "application/x-www-form-urlencoded")
	f.Add("client_id=stella-cli&client_id=x", "application/x-www-form-urlencoded; charset=utf-8")
	f.Add("%zz", "text/plain")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		r := httptest.NewRequest(http.MethodPost, device.PathAuthorization, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		var doc map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		code, _ := doc["device_code"].(string)
		reason, _ := doc["error"].(string)
		if (w.Code == 200) != (code != "") || (w.Code == 200) == (reason != "") || w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if code != "" {
			if _, err := s.codes.Check(t.Context(), code, "stella-cli"); !errors.Is(err, device.ErrPending) {
				t.Fatal(err)
			}
		}
	})
}

// clashing says of the first three user codes that they are taken.
type clashing struct {
	store.Records
	n     *int
	first *string
}

func (c *clashing) Insert(ctx context.Context, r store.Record) error {
	if strings.HasPrefix(r.ID, "user/") && *c.n < 3 {
		*c.n++
		*c.first = r.ID
		return store.ErrExists
	}
	return c.Records.Insert(ctx, r)
}
