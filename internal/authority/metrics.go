package authority

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/obs"
)

// metrics are the counters of one replica. The gauges are read from the
// server when they are asked for.
type metrics struct {
	s        *Server
	registry *prometheus.Registry
	tokens   *prometheus.CounterVec
	issued   prometheus.Counter // the hot one, found once

	keys, live, age, db, signing, unusable, undestroyed *prometheus.Desc
}

const grantCredentials = "client_credentials"

func newMetrics(s *Server) *metrics {
	m := &metrics{
		s: s, registry: obs.NewRegistry("stella-authority"),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stella_authority_token_requests_total",
			Help: "Token requests by grant and outcome: issued, or the OAuth error code.",
		}, []string{"grant", "outcome"}),
		keys: prometheus.NewDesc("stella_authority_keys", "Signing keys by state.", []string{"state"}, nil),
		live: prometheus.NewDesc("stella_authority_live_tokens",
			"Unexpired tokens that this replica issued, by key.", []string{"kid"}, nil),
		age: prometheus.NewDesc("stella_authority_keyring_age_seconds",
			"Time since this replica last saw the whole key history.", nil, nil),
		db:      prometheus.NewDesc("stella_authority_database_up", "1 while the database answers.", nil, nil),
		signing: prometheus.NewDesc("stella_authority_signing_up", "1 while this replica signs.", nil, nil),
		unusable: prometheus.NewDesc("stella_authority_keys_unusable",
			"Keys in the key set whose private half this replica cannot use.", nil, nil),
		undestroyed: prometheus.NewDesc("stella_authority_keys_not_destroyed",
			"Ended keys whose private half this replica could not have destroyed yet.", nil, nil),
	}
	m.issued = m.tokens.WithLabelValues(grantCredentials, "issued")
	m.registry.MustRegister(m.tokens, m)
	return m
}

// outcome counts one token request. Both labels come from fixed sets.
func (m *metrics) outcome(grant, outcome string) {
	switch {
	case outcome == "issued":
		m.issued.Inc()
	case grant == "":
		m.tokens.WithLabelValues("other", outcome).Inc()
	default:
		m.tokens.WithLabelValues(grant, outcome).Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.keys, m.live, m.age, m.db, m.signing, m.unusable, m.undestroyed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	up := 0.0
	if m.s.db.Err() == nil {
		up = 1
	}
	gauge(m.db, up)
	for kid, n := range m.s.counter.Local() {
		gauge(m.live, float64(n), kid)
	}
	ring := m.s.keys.Ring()
	if ring == nil {
		return
	}
	up = 0
	if m.s.keys.CannotSign() == nil {
		up = 1
	}
	gauge(m.signing, up)
	gauge(m.unusable, float64(len(m.s.keys.Unusable())))
	gauge(m.undestroyed, float64(len(m.s.keys.NotDestroyed())))
	gauge(m.age, m.s.keys.Unseen().Round(time.Millisecond).Seconds())
	states := map[keyring.State]int{}
	for _, s := range []keyring.State{keyring.Staged, keyring.Published, keyring.Active, keyring.Retiring, keyring.Tainted} {
		states[s] = 0
	}
	for _, k := range ring.Keys {
		states[k.State]++
	}
	for state, n := range states {
		gauge(m.keys, float64(n), string(state))
	}
}
