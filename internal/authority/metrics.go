package authority

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/obs"
)

// metrics are the counters of one replica. The gauges are read from the
// server when they are asked for (gauges.go). Every label has a value from a
// fixed set: what is not in it counts as "other", so that no caller can make
// series.
type metrics struct {
	s        *Server
	registry *prometheus.Registry
	gauges   gauges
	failures ratio // of the token endpoint

	tokens    *prometheus.CounterVec
	issued    prometheus.Counter     // the hot one, found once
	requests  *prometheus.CounterVec // upstream's name for nearly the same
	durations *prometheus.HistogramVec
	limiters  map[string]prometheus.Counter
	templates map[string]prometheus.Counter

	lockouts, logins, bypasses, unaudited prometheus.Counter

	revocations atomic.Pointer[func() (byCategory map[string]int, sequence int64)]
	redis       atomic.Pointer[bool] // nil: there is none
}

const (
	grantCredentials = "client_credentials"
	other            = "other"
)

// Limiters, as the label of aspnetcore_rate_limiting_rejections_total.
const (
	limiterToken     = "authority-token"
	limiterAuthorize = "authority-authorize"
	limiterInternal  = "authority-internal"
)

// grantLabel is what a grant is called in metrics.
func grantLabel(grant string) string {
	switch grant {
	case grantCredentials, "refresh_token", "device_code", "service_account":
		return grant
	case "urn:ietf:params:oauth:grant-type:device_code":
		return "device_code"
	default:
		return other
	}
}

// outcomeLabel keeps an OAuth error code (RFC 6749 section 5.2 and others:
// lower case and underscores) and folds anything else.
func outcomeLabel(outcome string) string {
	if outcome == "" || len(outcome) > 32 || strings.Trim(outcome, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return other
	}
	return outcome
}

// statusLabel is an HTTP status code as text.
func statusLabel(status int) string {
	if status < 100 || status > 599 {
		return other
	}
	return strconv.Itoa(status)
}

// routeLabel is the path of a ServeMux pattern, without method and host; other
// where no pattern matched.
func routeLabel(pattern string) string {
	if at := strings.IndexByte(pattern, '/'); at >= 0 {
		return pattern[at:]
	}
	return other
}

func newMetrics(s *Server) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		s: s, registry: obs.NewRegistry("stella-authority"), gauges: newGauges(),
		tokens: vector("stella_authority_token_requests_total",
			"Token requests by grant and outcome: issued, or the OAuth error code.", "grant", "outcome"),
		requests: vector("token_requests_total", "Token requests by grant and HTTP status.", "grant_type", "status"),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_server_duration_seconds", Help: "Time to answer a request, by route and HTTP status.",
			ConstLabels: prometheus.Labels{"service_name": "stellaops-authority"},
			Buckets:     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"http_route", "http_status_code"}),
		limiters: map[string]prometheus.Counter{}, templates: map[string]prometheus.Counter{},
		lockouts:  counter("stella_authority_lockouts_total", "Logins refused because of too many failures before."),
		logins:    counter("stella_authority_login_failures_total", "Logins refused, lockouts included."),
		bypasses:  counter("stella_authority_bypass_total", "Requests let through by network address instead of a token."),
		unaudited: counter("stella_authority_audit_failures_total", "Audit records that were lost or written late."),
	}
	m.issued = m.tokens.WithLabelValues(grantCredentials, "issued")
	// Known series begin at 0: a rate over one that appears with its first event
	// misses that event.
	limited := vector("aspnetcore_rate_limiting_rejections_total", "Requests refused with 429, by limiter.", "limiter")
	for _, name := range []string{limiterToken, limiterAuthorize, limiterInternal, other} {
		m.limiters[name] = limited.WithLabelValues(name)
	}
	messages := vector("log_messages_total", "Log lines with a message that dashboards know.", "message_template")
	for _, text := range audit.Templates() {
		m.templates[text] = messages.WithLabelValues(text)
	}
	m.registry.MustRegister(m.tokens, m.requests, m.durations, limited, messages,
		m.lockouts, m.logins, m.bypasses, m.unaudited, m)
	return m
}

// outcome counts one token request.
func (m *metrics) outcome(grant, outcome string) {
	if outcome == "issued" && grant == grantCredentials {
		m.issued.Inc()
		return
	}
	m.tokens.WithLabelValues(grantLabel(grant), outcomeLabel(outcome)).Inc()
}

// answered is outcome for callers that know the HTTP status of the answer too.
func (m *metrics) answered(grant, outcome string, status int) {
	m.outcome(grant, outcome)
	m.requests.WithLabelValues(grantLabel(grant), statusLabel(status)).Inc()
}

// rejected counts a request that a limiter refused.
func (m *metrics) rejected(limiter string) {
	c, ok := m.limiters[limiter]
	if !ok {
		c = m.limiters[other]
	}
	c.Inc()
}

// loginFailed counts a login that was refused for its credentials.
func (m *metrics) loginFailed() { m.logins.Inc() }

// lockedOut counts a login that was refused without a look at its credentials.
func (m *metrics) lockedOut() {
	m.logins.Inc()
	m.lockouts.Inc()
}

// bypassed counts a request that was let through by its network address.
func (m *metrics) bypassed() { m.bypasses.Inc() }

// auditFailed counts an audit record that was lost or late.
func (m *metrics) auditFailed() { m.unaudited.Inc() }

// redisUp is told whether the Redis that replicas share answers.
func (m *metrics) redisUp(up bool) { m.redis.Store(&up) }

// followRevocations names where the gauges of revocations come from: entries
// in force by category, and the sequence of the newest bundle.
func (m *metrics) followRevocations(from func() (byCategory map[string]int, sequence int64)) {
	m.revocations.Store(&from)
}

// observe is told about every answered request; see httpd.Config.Observe.
func (m *metrics) observe(_ *http.Request, pattern string, status int, elapsed time.Duration) {
	route := routeLabel(pattern)
	m.durations.WithLabelValues(route, statusLabel(status)).Observe(elapsed.Seconds())
	if route == pathToken {
		m.failures.add(m.s.now(), status >= 400)
	}
}

// countTemplates returns a handler that counts the lines it passes to h whose
// message is one of audit.Templates.
func (m *metrics) countTemplates(h slog.Handler) slog.Handler {
	return templateCounter{h, m.templates}
}
