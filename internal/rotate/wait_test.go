package rotate

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/keyring"
)

// waits runs d until its first sleep and returns what was told and slept.
func waits(t *testing.T, f *fakeAuthority) (Event, time.Duration) {
	t.Helper()
	d := f.driver(nil)
	var told Event
	var slept time.Duration
	d.Events = func(e Event) {
		if e.Type == Waiting {
			told = e
		}
	}
	stop := errors.New("stop")
	d.Sleep = func(_ context.Context, nap time.Duration) error { slept = nap; return stop }
	if _, err := d.Advance(t.Context(), Options{Wait: true}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	return told, slept
}

// TestWait: what is told is the time until the step; what is slept is bounded
// by the next look, whatever is waited for, while there is a standby.
func TestWait(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cache   time.Duration
		left    time.Duration
		action  keyring.Action
		vantage bool
		blocked string
		standby bool
		sleeps  time.Duration
	}{
		{"activate, looking", 5 * time.Minute, time.Hour, keyring.Activate, true, "", true, maxLook},
		{"activate, a short cache", 50 * time.Second, time.Hour, keyring.Activate, true, "", true, 10 * time.Second},
		{"retire, looking for the emergency", 50 * time.Second, time.Hour, keyring.Retire, true, "", true, 10 * time.Second},
		{"a very short cache", time.Millisecond, time.Hour, keyring.Retire, true, "", true, minLook},
		{"nothing to look at", time.Minute, time.Hour, keyring.Retire, false, "", true, time.Hour},
		{"no standby", time.Minute, time.Hour, keyring.Retire, true, "", false, time.Hour},
		{"sooner than a look", time.Hour, time.Second, keyring.Activate, true, "", true, time.Second},
		{"blocked", time.Minute, -time.Minute, keyring.Activate, true, "edge does not serve it", true, 12 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.report.Policy.CacheLifetime = keyring.Seconds(tc.cache)
			f.report.Steps = []keyring.Step{{Action: tc.action, KID: "new", Auto: true, NotBefore: f.report.Now.Add(tc.left), Blocked: tc.blocked}}
			if tc.vantage {
				f.report.Vantage = []keyring.Vantage{{Name: "edge", URL: f.URL + "/jwks", Required: true}}
			}
			if !tc.standby {
				f.report.Keys = f.report.Keys[:1]
			}
			f.bad = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == keyring.PathObservations {
					w.WriteHeader(http.StatusNoContent)
					return true
				}
				return false
			}
			e, slept := waits(t, f)
			if e.Left != max(tc.left, 0) || !e.Until.Equal(f.report.Now.Add(tc.left)) || slept != tc.sleeps {
				t.Errorf("left %s until %s, slept %s, want %s", e.Left, e.Until, slept, tc.sleeps)
			}
		})
	}
}

// TestTrouble: a place that cannot be looked at is told when that begins,
// changes and ends, and once a minute in between.
func TestTrouble(t *testing.T) {
	var told []string
	now := time.Unix(0, 0)
	d := &Driver{Now: func() time.Time { return now }, Events: func(e Event) {
		if e.Type == Warning {
			told = append(told, e.Text)
		}
	}}
	down := Sight{Name: "edge", Err: fault.Errorf(fault.Transient, "down\nhint: forged")}
	for range 61 { // a minute of looks
		d.cannotLook(t.Context(), down)
		now = now.Add(time.Second)
	}
	d.cannotLook(t.Context(), Sight{Name: "edge", Err: fault.Errorf(fault.Trust, "odd")})
	d.looked(Sight{Name: "edge"})
	d.looked(Sight{Name: "edge"})
	want := `cannot look at vantage point "edge": down hint: forged|still unreachable: vantage point "edge": down hint: forged|` +
		`cannot look at vantage point "edge": odd|vantage point "edge" answers again`
	if got := strings.Join(told, "|"); got != want {
		t.Errorf("told:\n%s\nwant\n%s", got, want)
	}
}

// TestWhoNamesPlaces: the Authority's word does not make this host read files
// or ask plain HTTP; its own configuration does.
func TestWhoNamesPlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, []byte(`{"keys":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	file := "file://" + path
	for _, tc := range []struct {
		v       keyring.Vantage
		local   bool
		ignored bool
	}{
		{keyring.Vantage{Name: "a", URL: file}, false, true},
		{keyring.Vantage{Name: "a", URL: file, Required: true}, false, true},
		{keyring.Vantage{Name: "a", URL: file}, true, false},
		{keyring.Vantage{Name: "a", URL: "http://127.0.0.1:1/jwks"}, false, true},
		{keyring.Vantage{Name: "a", URL: "http://10.0.0.1/jwks", Required: true}, false, true},
		{keyring.Vantage{Name: "a", URL: "HTTP:opaque", Required: true}, false, true},
		{keyring.Vantage{Name: "a", URL: "http://127.0.0.1:1/jwks", Required: true}, false, false},
		{keyring.Vantage{Name: "a", URL: f.URL + "/jwks"}, false, false},
	} {
		l := &Looker{Client: f.Client()}
		if tc.local {
			l.Extra = []Point{{Name: "mine", URL: tc.v.URL}}
		}
		for _, s := range l.Look(t.Context(), []keyring.Vantage{tc.v}) {
			if ignored := s.Err != nil && strings.Contains(s.Err.Error(), "it is ignored"); ignored != tc.ignored {
				t.Errorf("%+v, local %v: %v", tc.v, tc.local, s.Err)
			}
		}
	}
}

type noToken struct{ asked int }

func (n *noToken) Do(*http.Request) (*http.Response, error) {
	n.asked++
	return nil, &NoTokenError{fault.Errorf(fault.Transient, "503").Hint("the way out")}
}

// TestNoToken: what getting a token has tried again is not tried again.
func TestNoToken(t *testing.T) {
	n := &noToken{}
	d := &Driver{API: &API{Base: "https://authority.example", Doer: n}, Looker: &Looker{}, Delays: []time.Duration{time.Microsecond}}
	if _, err := d.Status(t.Context()); fault.KindOf(err) != fault.Transient || n.asked != 1 || len(fault.HintsOf(err)) != 1 {
		t.Errorf("asked %d times: %v, %q", n.asked, err, fault.HintsOf(err))
	}
}

// TestPlanBlocked: the estimate never leaves out a place that blocks.
func TestPlanBlocked(t *testing.T) {
	f := newFake(t)
	r := f.report
	r.Policy = keyring.Policy{CacheLifetime: keyring.Seconds(time.Minute), Skew: keyring.Seconds(time.Second)}
	for name, want := range map[string]time.Duration{"": 0, "does not serve it": 10*time.Minute + time.Second} {
		r.Vantage = nil
		r.Steps[0].Blocked = name
		if name != "" {
			r.Vantage = []keyring.Vantage{{Name: "edge", Required: true, LastSeen: r.Now, MaxAge: keyring.Seconds(10 * time.Minute)}}
		}
		p := NewPlan(&r)
		if s := p.Steps[0]; s.Action != keyring.Activate || s.Blocked != name || s.At.Sub(r.Now) != want {
			t.Errorf("%q: %+v, %s from now", name, s, s.At.Sub(r.Now))
		}
		if err := notYet(&r, "new"); name != "" && !strings.Contains(strings.Join(fault.HintsOf(err), "|"), "repair edge, or take it out of signing.vantagePoints") {
			t.Errorf("the hints are %q", fault.HintsOf(err))
		}
	}
}

// TestNotYetLookAgain: a place that was looked at in the second of the
// publication is not called broken.
func TestNotYetLookAgain(t *testing.T) {
	f := newFake(t)
	r := f.report
	r.Policy = keyring.Policy{CacheLifetime: keyring.Seconds(time.Minute), SignLease: keyring.Seconds(time.Second)}
	r.Keys[1].PublishedAt = r.Now
	r.Steps[0].Blocked = "it did not serve it"
	for looked, repair := range map[time.Duration]bool{0: false, 61 * time.Second: false, 62 * time.Second: true} {
		r.Vantage = []keyring.Vantage{{Name: "edge", Required: true, LastSeen: r.Now.Add(looked)}}
		r.Steps[0].NotBefore = r.Now
		hints := strings.Join(fault.HintsOf(notYet(&r, "new")), "|")
		if strings.Contains(hints, "repair edge") != repair || strings.Contains(hints, "look again: stella auth rotate advance") == repair {
			t.Errorf("looked %s later: %s", looked, hints)
		}
	}
}

// TestNoForgedLines: what the Authority says stays on its line.
func TestNoForgedLines(t *testing.T) {
	f := newFake(t)
	f.bad = func(w http.ResponseWriter, _ *http.Request) bool {
		body(409, `{"error":{"code":"order","message":"a\nhint: forged\u001b[2J","next":"b\r\nhint: more"}}`)(w)
		return true
	}
	_, err := f.driver(nil).Status(t.Context())
	if text := err.Error() + strings.Join(fault.HintsOf(err), ""); strings.ContainsAny(text, "\n\r\x1b") || !strings.Contains(text, "a hint: forged") {
		t.Errorf("%q", text)
	}
}
