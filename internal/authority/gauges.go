package authority

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stella-ops/stella/internal/keyring"
)

// gauges describe what Collect reads from the server.
type gauges struct {
	keys, keyAge, live, age, db, signing, unusable, undestroyed, failed, revoked, sequence, redis *prometheus.Desc
}

func newGauges() gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("stella_authority_"+name, help, labels, nil)
	}
	return gauges{
		keys:        desc("keys", "Signing keys by state.", "state"),
		keyAge:      desc("key_age_seconds", "Time since a key that has not ended entered its state.", "kid", "state"),
		live:        desc("live_tokens", "Unexpired tokens that this replica issued, by key.", "kid"),
		age:         desc("keyring_age_seconds", "Time since this replica last saw the whole key history."),
		db:          desc("database_up", "1 while the database answers."),
		signing:     desc("signing_up", "1 while this replica signs."),
		unusable:    desc("keys_unusable", "Keys in the key set whose private half this replica cannot use."),
		undestroyed: desc("keys_not_destroyed", "Ended keys whose private half this replica could not have destroyed yet."),
		failed:      desc("token_failure_ratio", "Part of the token requests of the last 5 minutes that ended in 4xx or 5xx; 0 without requests."),
		revoked:     desc("revocations", "Revocations in force, by category.", "category"),
		redis:       desc("redis_up", "1 while the Redis that replicas share answers; absent where there is none."),
		sequence:    desc("revocation_sequence", "Sequence number of the newest revocation bundle."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	g := &m.gauges
	for _, d := range []*prometheus.Desc{g.keys, g.keyAge, g.live, g.age, g.db, g.signing, g.unusable, g.undestroyed,
		g.failed, g.revoked, g.sequence} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	now, g := m.s.now(), &m.gauges
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(g.failed, m.failures.value(now))
	gauge(g.db, truth(m.s.db.Err() == nil))
	for kid, n := range m.s.counter.Local() {
		gauge(g.live, float64(n), kid)
	}
	if from := m.revocations.Load(); from != nil {
		byCategory, sequence := (*from)()
		all := map[string]int{"token": 0, "subject": 0, "client": 0, "key": 0}
		maps.Copy(all, byCategory)
		for category, n := range all {
			gauge(g.revoked, float64(n), category)
		}
		gauge(g.sequence, float64(sequence))
	}
	if up := m.redis.Load(); up != nil {
		gauge(g.redis, truth(*up))
	}
	ring := m.s.keys.Ring()
	if ring == nil {
		return
	}
	gauge(g.signing, truth(m.s.keys.CannotSign() == nil))
	gauge(g.unusable, float64(len(m.s.keys.Unusable())))
	gauge(g.undestroyed, float64(len(m.s.keys.NotDestroyed())))
	gauge(g.age, m.s.keys.Unseen().Round(time.Millisecond).Seconds())
	states := map[keyring.State]int{}
	for _, s := range []keyring.State{keyring.Staged, keyring.Published, keyring.Active, keyring.Retiring, keyring.Tainted} {
		states[s] = 0
	}
	for i := range ring.Keys {
		k := &ring.Keys[i]
		states[k.State]++
		if !k.State.Ended() {
			gauge(g.keyAge, max(0, now.Sub(entered(k)).Seconds()), k.KID, string(k.State))
		}
	}
	for state, n := range states {
		gauge(g.keys, float64(n), string(state))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// entered is when k came into its state.
func entered(k *keyring.Key) time.Time {
	switch k.State {
	case keyring.Staged:
		return k.StagedAt
	case keyring.Published:
		return k.PublishedAt
	case keyring.Active:
		return k.ActivatedAt
	case keyring.Retiring:
		return k.DemotedAt
	case keyring.Tainted:
		return k.TaintedAt
	default:
		return k.EndedAt
	}
}

// The window of a ratio, in steps.
const (
	ratioStep  = 10 * time.Second
	ratioSteps = 30 // 5 minutes
)

// ratio is the failed part of what happened in the last 5 minutes, the step
// under way included. The zero value is ready to use.
type ratio struct {
	mu    sync.Mutex
	steps [ratioSteps]struct {
		number      int64 // of steps since 1970
		all, failed uint64
	}
}

func (r *ratio) add(now time.Time, failed bool) {
	number := now.Unix() / int64(ratioStep/time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.steps[number%ratioSteps]
	if s.number != number {
		s.number, s.all, s.failed = number, 0, 0
	}
	s.all++
	if failed {
		s.failed++
	}
}

func (r *ratio) value(now time.Time) float64 {
	number := now.Unix() / int64(ratioStep/time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	var all, failed uint64
	for _, s := range r.steps {
		if s.number > number-ratioSteps && s.number <= number {
			all, failed = all+s.all, failed+s.failed
		}
	}
	if all == 0 {
		return 0
	}
	return float64(failed) / float64(all)
}

// templateCounter is a slog.Handler that counts known messages.
type templateCounter struct {
	slog.Handler
	counts map[string]prometheus.Counter
}

// Handle implements slog.Handler.
func (t templateCounter) Handle(ctx context.Context, r slog.Record) error {
	if c, ok := t.counts[r.Message]; ok {
		c.Inc()
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t templateCounter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return templateCounter{t.Handler.WithAttrs(attrs), t.counts}
}

// WithGroup implements slog.Handler.
func (t templateCounter) WithGroup(name string) slog.Handler {
	return templateCounter{t.Handler.WithGroup(name), t.counts}
}
