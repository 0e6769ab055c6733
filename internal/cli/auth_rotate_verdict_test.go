package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/ui"
)

// reported is a keyring in order: "one" signs, "two" is the standby.
func reported() *keyring.Report {
	now := time.Date(2026, 1, 2, 8, 3, 39, 0, time.UTC)
	return &keyring.Report{Now: now, Replica: "rep-a", Keys: []keyring.Key{
		{KID: "one", State: keyring.Active, Private: "one", PublishedAt: now.Add(-time.Hour)},
		{KID: "two", State: keyring.Published, Private: "two", PublishedAt: now.Add(-time.Hour)},
	}, Steps: []keyring.Step{{Action: keyring.Activate, KID: "two", NotBefore: now, Due: true, Why: "why", Command: "stella auth rotate activate two"}}}
}

// shown is the page of a report as text.
func shown(t *testing.T, r *keyring.Report, all bool) string {
	t.Helper()
	s, out, _ := ui.Buffers("")
	if err := s.Render("x/v1", r, func(p *ui.Page) { keyringPage(p, r, all) }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestVerdict(t *testing.T) {
	due := func(a keyring.Action, ago time.Duration) func(*keyring.Report) {
		return func(r *keyring.Report) {
			r.Steps = []keyring.Step{{Action: a, KID: "old", NotBefore: r.Now.Add(-ago), Due: true, Auto: true}}
		}
	}
	outage := func(wait time.Duration) func(*keyring.Report) {
		return func(r *keyring.Report) {
			r.Keys[0].State = keyring.Tainted
			r.Steps[0].Auto, r.Steps[0].Due, r.Steps[0].NotBefore = true, wait == 0, r.Now.Add(wait)
		}
	}
	for name, tc := range map[string]struct {
		bend func(*keyring.Report)
		want string // how the first line begins
	}{
		"in order":     {func(*keyring.Report) {}, "OK: one signs, two is the standby"},
		"this replica": {func(r *keyring.Report) { r.CannotSign = "the key\nis out of reach" }, "NOT SIGNING on replica rep-a: the key is out of reach"},
		"the standby": {func(r *keyring.Report) {
			r.Unusable = []keyring.KeyTrouble{{KID: "two", Reference: "pkcs11:id=2", Error: "no token"}}
		}, "STANDBY CANNOT SIGN on replica rep-a: two (pkcs11:id=2): no token"},
		"another key":        {func(r *keyring.Report) { r.Unusable = []keyring.KeyTrouble{{KID: "old", Error: "gone"}} }, "OK: one signs"},
		"late":               {due(keyring.Retire, 136*time.Second), "OVERDUE 2m16s: nobody runs 'stella auth rotate advance'; one signs, and retire old is due since 08:01:23Z"},
		"not yet late":       {due(keyring.Retire, 2*time.Minute), "OK: "},
		"late revocation":    {due(keyring.Revoke, time.Hour), "OVERDUE 1h00m: "},
		"late standby":       {due(keyring.Stage, 5*time.Minute), "OVERDUE 5m00s: "},
		"late by itself":     {due(keyring.Activate, time.Hour), "OK: "}, // the Authority does it
		"outage":             {outage(time.Minute), "NO KEY SIGNS: nothing is issued until 08:04:39Z (in 1m00s), when two signs by itself; see: stella auth rotate status --bootstrap"},
		"outage, due":        {outage(0), "NO KEY SIGNS: nothing is issued until two signs, which it does by itself at once; see: stella auth rotate status --bootstrap"},
		"outage, no standby": {func(r *keyring.Report) { r.Keys, r.Steps = r.Keys[:0], nil }, "NO KEY SIGNS: nothing is issued until there is a new key; next: stella auth rotate advance --wait --bootstrap"},
	} {
		r := reported()
		tc.bend(r)
		if line, _, _ := strings.Cut(shown(t, r, false), "\n"); !strings.HasPrefix(line, tc.want) {
			t.Errorf("%s: %q, want %q", name, line, tc.want)
		}
	}
}

// TestTroubleLines: keys that are in trouble are named, each once.
func TestTroubleLines(t *testing.T) {
	r := reported()
	if text := shown(t, r, true); strings.Contains(text, "warning:") {
		t.Errorf("control: %s", text)
	}
	r.Unusable = []keyring.KeyTrouble{{KID: "two", Error: "no token"}, {KID: "old", Error: "gone"}}
	r.NotDestroyed = []keyring.KeyTrouble{{KID: "k0", Reference: "awskms:///arn", Error: "denied"}}
	text := shown(t, r, false)
	for _, want := range []string{
		"\nwarning: 1 private key cannot be used on replica rep-a: old: gone\n",
		"\nwarning: 1 private key waits to be destroyed at its provider: k0 (awskms:///arn): denied\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	r.NotDestroyed = append(r.NotDestroyed, keyring.KeyTrouble{KID: "k1", Error: "late"})
	if text := shown(t, r, false); !strings.Contains(text, "warning: 2 private keys wait to be destroyed at their provider: k0 (awskms:///arn): denied; k1: late\n") {
		t.Error(text)
	}
}

// TestOutageAnyway: in an outage it is said what else is wrong, once.
func TestOutageAnyway(t *testing.T) {
	r := reported()
	r.Keys[0].State = keyring.Tainted
	for why, want := range map[string]bool{keyring.ErrNoActive.Error(): false, keyring.ErrLease.Error(): true} {
		r.CannotSign = why
		text := shown(t, r, false)
		if !strings.HasPrefix(text, "NO KEY SIGNS: ") || strings.Contains(text, "replica rep-a could not sign anyway: "+why) != want {
			t.Error(text)
		}
	}
}

// TestKept: the column is there only where it tells keys apart.
func TestKept(t *testing.T) {
	r := reported()
	if text := shown(t, r, true); strings.Contains(text, "KEPT") {
		t.Errorf("control: all keys are files\n%s", text)
	}
	r.Keys[1].Private, r.Keys[1].Given = "awskms:///arn:aws:kms:eu-central-1:1:key/2", true
	r.Keys = append(r.Keys, keyring.Key{KID: "gone", State: keyring.Retired}, keyring.Key{KID: "hsm", State: keyring.Staged, Private: "pkcs11:token=a;id=%01"})
	text := shown(t, r, true)
	for kid, want := range map[string]string{"KID": "KEPT", "one": "file", "two": "awskms, yours", "gone": "-", "hsm": "pkcs11"} {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, kid+" ") && !strings.HasSuffix(line, " "+want+"\n") {
				t.Errorf("%q does not end with %q", line, want)
			}
		}
	}
	r.Keys = r.Keys[:1]
	r.Keys = append(r.Keys, keyring.Key{KID: "mine", State: keyring.Retired, Private: "pkcs11:a", Given: true})
	if text := shown(t, r, false); strings.Contains(text, "KEPT") {
		t.Errorf("for a key that is not shown:\n%s", text)
	}
}

// TestWho: who does what is left.
func TestWho(t *testing.T) {
	r := reported()
	later := r.Now.Add(time.Minute)
	r.Steps = append(r.Steps,
		keyring.Step{Action: keyring.Activate, KID: "three", NotBefore: later, Auto: true},
		keyring.Step{Action: keyring.Retire, KID: "zero", NotBefore: later, Auto: true})
	text := strings.Join(strings.Fields(shown(t, r, false)), " ")
	for _, want := range []string{"any time activate two you why stella auth rotate activate two", "activate three authority", "retire zero timer"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// TestTaken: a key of the operator's own was not made.
func TestTaken(t *testing.T) {
	r := &keyring.Result{KID: "two", To: keyring.Staged, Report: *reported()}
	for given, want := range map[bool]string{false: "two: made, staged", true: "two: taken in, staged"} {
		r.Report.Keys[1].Given = given
		if got := staged(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestTyped: the hint is what a shell takes for the same words.
func TestTyped(t *testing.T) {
	for want, line := range map[string][]string{
		"stella auth rotate status --bootstrap":                      {"auth", "rotate", "status"},
		`stella auth rotate taint --reason 'it'\''s $x' --bootstrap`: {"auth", "rotate", "taint", "--reason", "it's $x"},
		"stella auth rotate taint --reason '' --bootstrap -- KID":    {"auth", "rotate", "taint", "--reason", "", "--", "KID"},
	} {
		if got := (&App{line: line}).typed("--bootstrap"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestTimeless: a later look that finds the same is nothing new.
func TestTimeless(t *testing.T) {
	text := func(at string) string {
		return `"edge" did not serve it when looked at ` + at + `; "b" was last looked at 2026-01-02T08:03:39Z`
	}
	if timeless(text("08:03:39Z")) != timeless(text("2026-01-03T00:00:01Z")) || timeless(text("a")) == timeless("") {
		t.Error(timeless(text("08:03:39Z")))
	}
}
