package authority

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/obs"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// measured is a replica with a keyring, on a clock of the test's.
func measured(t *testing.T) (*Server, *clock) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bootstrap"), []byte("a bootstrap key for tests only\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := ParseConfig("authority.yaml", fmt.Appendf(nil, `schemaVersion: 1
issuer: http://127.0.0.1:8440
listen: 127.0.0.1:0
insecureHttp: true
replica: a
storage: {connectionString: memory, acceptDataLoss: true}
signing: {keyDirectory: %s, createIfMissing: true}
bootstrap: {apiKey: "file:%s"}
`, filepath.Join(dir, "keys"), filepath.Join(dir, "bootstrap")), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{at: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)}
	s, err := New(cfg, Deps{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// scrape returns every series, named as in the text format, with its value.
func (m *metrics) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatal(w.Body)
	}
	out := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		out[line[:at]] = v
	}
	return out
}

// value is one series of a scrape, or -1.
func (m *metrics) value(t *testing.T, series string) float64 {
	t.Helper()
	if v, ok := m.scrape(t)[series]; ok {
		return v
	}
	return -1
}

// upstreamNames are those that the platform's dashboards use.
func upstreamNames() []string {
	return []string{"token_requests_total", "aspnetcore_rate_limiting_rejections_total", "http_server_duration_seconds", "log_messages_total"}
}

// exercise makes something happen in every series.
func exercise(m *metrics) {
	for _, grant := range []string{"client_credentials", "urn:ietf:params:oauth:grant-type:device_code", "refresh_token", "service_account", "password"} {
		m.answered(grant, "issued", 200)
		m.answered(grant, "invalid_grant", 400)
	}
	for _, name := range []string{limiterToken, limiterAuthorize, limiterInternal} {
		m.rejected(name)
	}
	m.loginFailed()
	m.lockedOut()
	m.bypassed()
	m.auditFailed()
	m.followRevocations(func() (map[string]int, int64) { return map[string]int{"token": 3}, 17 })
	m.observe(nil, "POST /token", 200, 30*time.Millisecond)
	m.observe(nil, "POST /token", 500, 30*time.Millisecond)
	m.observe(nil, "GET /jwks", 200, time.Millisecond)
	log := slog.New(m.countTemplates(slog.NewTextHandler(io.Discard, nil)))
	for _, text := range audit.Templates() {
		log.Warn(text)
	}
}

func TestMetricValues(t *testing.T) {
	s, c := measured(t)
	m := s.metrics
	before := map[string]float64{}
	want := map[string][2]float64{
		`stella_authority_token_requests_total{grant="client_credentials",outcome="issued"}`:                                        {0, 1},
		`stella_authority_token_requests_total{grant="device_code",outcome="invalid_grant"}`:                                        {-1, 1},
		`stella_authority_token_requests_total{grant="other",outcome="issued"}`:                                                     {-1, 1},
		`token_requests_total{grant_type="refresh_token",status="200"}`:                                                             {-1, 1},
		`token_requests_total{grant_type="service_account",status="400"}`:                                                           {-1, 1},
		`aspnetcore_rate_limiting_rejections_total{limiter="authority-token"}`:                                                      {0, 1},
		`aspnetcore_rate_limiting_rejections_total{limiter="authority-authorize"}`:                                                  {0, 1},
		`aspnetcore_rate_limiting_rejections_total{limiter="authority-internal"}`:                                                   {0, 1},
		`stella_authority_lockouts_total`:                                                                                           {0, 1},
		`stella_authority_login_failures_total`:                                                                                     {0, 2},
		`stella_authority_bypass_total`:                                                                                             {0, 1},
		`stella_authority_audit_failures_total`:                                                                                     {0, 1},
		`stella_authority_revocations{category="token"}`:                                                                            {0, 3},
		`stella_authority_revocations{category="key"}`:                                                                              {0, 0},
		`stella_authority_revocation_sequence`:                                                                                      {0, 17},
		`stella_authority_token_failure_ratio`:                                                                                      {0, 0.5},
		`stella_authority_signing_up`:                                                                                               {1, 1},
		`stella_authority_keys{state="active"}`:                                                                                     {1, 1},
		`http_server_duration_seconds_count{http_route="/token",http_status_code="500",service_name="stellaops-authority"}`:         {-1, 1},
		`http_server_duration_seconds_count{http_route="/jwks",http_status_code="200",service_name="stellaops-authority"}`:          {-1, 1},
		`log_messages_total{message_template="Granting StellaOps bypass for remote {RemoteIp}; required scopes {RequiredScopes}."}`: {0, 1},
	}
	for series := range want {
		before[series] = m.value(t, series)
	}
	exercise(m)
	for series, w := range want {
		if got := m.value(t, series); before[series] != w[0] || got != w[1] {
			t.Errorf("%s goes from %v to %v, want %v", series, before[series], got, w)
		}
	}
	if err := obs.CheckNames(m.registry, upstreamNames()...); err != nil {
		t.Error(err)
	}
	for _, k := range s.keys.Ring().Keys {
		c.pass(time.Hour)
		series := fmt.Sprintf(`stella_authority_key_age_seconds{kid=%q,state=%q}`, k.KID, k.State)
		if got, age := m.value(t, series), c.now().Sub(entered(&k)).Seconds(); got != age || age < 3600 {
			t.Errorf("%s is %v, want %v", series, got, age)
		}
	}
}

// TestEntered gives a key a time for each state that it has been in.
func TestEntered(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 11, 22, hour, 0, 0, 0, time.UTC) }
	k := keyring.Key{StagedAt: at(1), PublishedAt: at(2), ActivatedAt: at(3), DemotedAt: at(4), TaintedAt: at(5), EndedAt: at(6)}
	for state, hour := range map[keyring.State]int{
		keyring.Staged: 1, keyring.Published: 2, keyring.Active: 3, keyring.Retiring: 4, keyring.Tainted: 5, keyring.Revoked: 6,
	} {
		k.State = state
		if got := entered(&k); got.Hour() != hour {
			t.Errorf("%s since %s", state, got)
		}
	}
}

// TestFailureRatio moves through the window of 5 minutes.
func TestFailureRatio(t *testing.T) {
	var r ratio
	c := &clock{at: time.Date(2026, 11, 22, 3, 0, 3, 0, time.UTC)}
	check := func(when string, want float64) {
		t.Helper()
		if got := r.value(c.now()); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("nothing happened", 0)
	r.add(c.now(), true)
	check("one failure", 1)
	for range 3 {
		r.add(c.now(), false)
	}
	check("one in four", 0.25)
	c.pass(4 * time.Minute)
	r.add(c.now(), true)
	check("both ends of the window", 0.4)
	c.pass(50 * time.Second)
	check("the last step of the first", 0.4)
	c.pass(10 * time.Second)
	check("the first has left", 1)
	c.pass(4 * time.Minute)
	check("all have left", 0)
	r.add(c.now(), false)
	check("and an old step was taken over", 0)
	c.pass(-time.Hour)
	check("the clock went back", 0)
}

// TestOnlyTheTokenEndpointCounts: the ratio is about /token.
func TestOnlyTheTokenEndpointCounts(t *testing.T) {
	s, _ := measured(t)
	s.metrics.observe(nil, "POST /introspect", 500, 0)
	s.metrics.observe(nil, "", 404, 0)
	if got := s.metrics.failures.value(s.now()); got != 0 {
		t.Errorf("others make it %v", got)
	}
	s.metrics.observe(nil, "POST /token", 429, 0)
	if got := s.metrics.failures.value(s.now()); got != 1 {
		t.Errorf("a refused token request makes it %v", got)
	}
}

// TestLabelsAreBounded: callers choose grants, paths and methods, and make no
// series by it.
func TestLabelsAreBounded(t *testing.T) {
	s, _ := measured(t)
	m := s.metrics
	exercise(m)
	m.answered("", "", 0)
	m.rejected("x")
	m.observe(nil, "", 404, 0)
	m.observe(nil, "", 99, 0)
	count := func() int { return len(m.scrape(t)) }
	before := count()
	for i := range 100 {
		odd := fmt.Sprintf("grant-%d", i)
		m.answered(odd, strings.ToUpper(odd), 600+i)
		m.answered(odd, strings.Repeat("x", 33+i), -i)
		m.rejected(odd)
		m.observe(nil, odd, 1000+i, 0)
	}
	if after := count(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
	if got := m.value(t, `aspnetcore_rate_limiting_rejections_total{limiter="other"}`); got != 101 {
		t.Errorf("%v rejections by unknown limiters, want 101", got)
	}
	m.answered("refresh_token", "invalid_client", 401) // the control
	if after := count(); after != before+2 {
		t.Errorf("a new outcome and a new status are %d series", after-before)
	}
}

func TestCountTemplates(t *testing.T) {
	s, _ := measured(t)
	var out bytes.Buffer
	log := slog.New(s.metrics.countTemplates(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	log.With("Path", "/token").WithGroup("g").Warn(audit.TemplateRateLimited, "RemoteIp", "10.0.0.1")
	log.Warn(audit.TemplateRateLimited + "!")
	log.Info(audit.TemplateRateLimited) // below the level: no line, no count
	series := fmt.Sprintf(`log_messages_total{message_template=%q}`, audit.TemplateRateLimited)
	if got := s.metrics.value(t, series); got != 1 {
		t.Errorf("%s is %v", series, got)
	}
	if !strings.Contains(out.String(), "Path=/token g.RemoteIp=10.0.0.1") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("the log is %s", out.String())
	}
	templates := 0
	for series := range s.metrics.scrape(t) {
		if strings.HasPrefix(series, "log_messages_total") {
			templates++
		}
	}
	if templates != len(audit.Templates()) {
		t.Errorf("%d templates are counted", templates)
	}
}

// TestRoutes holds the label to paths without method and host.
func TestRoutes(t *testing.T) {
	for pattern, want := range map[string]string{
		"POST /token": "/token", "/jwks": "/jwks", "GET example.com/x/{id}": "/x/{id}", "": "other", "odd": "other",
	} {
		if got := routeLabel(pattern); got != want {
			t.Errorf("%q is %q, want %q", pattern, got, want)
		}
	}
}
