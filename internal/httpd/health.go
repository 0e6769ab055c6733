package httpd

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Check is one named question to the service: nil means yes.
type Check struct {
	Name string
	Func func(context.Context) error
	// Live checks also decide /healthz: what they find wrong a restart may
	// cure. The others (a database that is down) decide /readyz alone.
	Live bool
}

const (
	statusOK   = "ok"
	statusFail = "fail"
)

// keep is how long a report is given again, so that a flood of probes costs
// one round of checks.
const keep = 500 * time.Millisecond

// HealthReport is the JSON of /healthz and /readyz.
type HealthReport struct {
	Schema string        `json:"schema"`
	Status string        `json:"status"` // "ok" or "fail"
	Checks []CheckResult `json:"checks"`
}

// CheckResult is one line of a HealthReport. Error is for operators and is
// told on the admin listener only.
type CheckResult struct {
	Name    string  `json:"name"`
	Status  string  `json:"status"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

func (r HealthReport) reason() string {
	var all []string
	for _, c := range r.Checks {
		if c.Status != statusOK {
			all = append(all, c.Name+": "+c.Error)
		}
	}
	return strings.Join(all, "; ")
}

type health struct {
	timeout  time.Duration
	checks   []Check
	draining *atomic.Bool

	mu   sync.Mutex
	last [2]struct {
		at     time.Time
		report HealthReport
	}
}

// run asks all checks (the live ones only if live) at once, each within the
// timeout.
func (h *health) run(ctx context.Context, live bool) HealthReport {
	slot := 0
	if live {
		slot = 1
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := h.last[slot]; !last.at.IsZero() && time.Since(last.at) < keep {
		return last.report
	}
	report := HealthReport{Schema: "stella.health/v1", Status: statusOK, Checks: []CheckResult{}}
	var asked []Check
	for _, c := range h.checks {
		if c.Live || !live {
			asked = append(asked, c)
		}
	}
	results := make([]CheckResult, len(asked))
	var wg sync.WaitGroup
	for i, c := range asked {
		wg.Go(func() { results[i] = h.ask(ctx, c) })
	}
	wg.Wait()
	for _, r := range results {
		if r.Status != statusOK {
			report.Status = statusFail
		}
		report.Checks = append(report.Checks, r)
	}
	if ctx.Err() == nil { // a caller that went away must not spoil the next answer
		h.last[slot].at, h.last[slot].report = time.Now(), report
	}
	return report
}

func (h *health) ask(ctx context.Context, c Check) (r CheckResult) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	start := time.Now()
	r = CheckResult{Name: c.Name, Status: statusOK}
	defer func() {
		if p := recover(); p != nil {
			r.Status, r.Error = statusFail, fmt.Sprintf("panic: %v", p)
		}
		r.Seconds = time.Since(start).Seconds()
	}()
	if err := c.Func(ctx); err != nil {
		r.Status, r.Error = statusFail, err.Error()
	}
	return r
}

// answer writes a report: 200 or 503. Without detail the texts of errors stay
// inside.
func (h *health) answer(w http.ResponseWriter, r *http.Request, live, detail bool) {
	// Not the request's context: one prober that hangs up must not fail the
	// check for the others that wait for the same report.
	report := h.run(context.WithoutCancel(r.Context()), live)
	if !live && h.draining.Load() {
		report.Status = statusFail
		report.Checks = append([]CheckResult{{Name: "draining", Status: statusFail, Error: "the server is stopping"}}, report.Checks...)
	}
	if !detail {
		report.Checks = append([]CheckResult(nil), report.Checks...)
		for i := range report.Checks {
			report.Checks[i].Error = ""
		}
	}
	status := http.StatusOK
	if report.Status != statusOK {
		status = http.StatusServiceUnavailable
	}
	WriteJSON(w, status, report)
}

// Health returns the handler of /healthz for a public listener: names and
// states, no reasons.
func (s *Server) Health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.health.answer(w, r, true, false) })
}

// Ready returns the handler of /readyz for a public listener: names and
// states, no reasons.
func (s *Server) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.health.answer(w, r, false, false) })
}
