package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
	"github.com/stella-ops/stella/internal/rotate"
	"github.com/stella-ops/stella/internal/ui"
)

var stateTones = map[keyring.State]ui.Tone{
	keyring.Active: ui.Good, keyring.Published: ui.Strong, keyring.Retiring: ui.Warn, keyring.Tainted: ui.Bad,
	keyring.Retired: ui.Faint, keyring.Discarded: ui.Faint, keyring.Withdrawn: ui.Faint, keyring.Revoked: ui.Faint,
}

// keyringPage shows a report: keys, vantage points, what comes next.
func keyringPage(p *ui.Page, r *keyring.Report, all bool) {
	tone, text := verdict(r)
	p.Verdict(tone, text)
	for _, line := range troubleLines(r) {
		p.Line("%s", line)
	}
	p.Pairs(
		ui.Pair{Key: "issuer", Value: ui.C(r.Issuer)},
		ui.Pair{Key: "answered by", Value: ui.C(r.Replica)},
		ui.Pair{Key: "version", Value: ui.C(fmt.Sprintf("%d, since %s", r.Version, clock(r.ChangeAt)))},
		ui.Pair{Key: "timetable", Value: ui.C(fmt.Sprintf("cache %s, skew %s, longest token %s, lag at most %s",
			r.Policy.CacheLifetime, r.Policy.Skew, r.Policy.TokenLifetime, r.Policy.SignLease))},
	)
	live := map[string]keyring.Live{}
	for _, l := range r.Live {
		live[l.KID] = l
	}
	ring := &keyring.Ring{Policy: r.Policy, Keys: r.Keys}
	var rows [][]ui.Cell
	header := []string{"kid", "state", "published", "what its time allows", "live tokens"}
	elsewhere := slices.ContainsFunc(r.Keys, func(k keyring.Key) bool {
		return (all || !k.State.Ended()) && k.Private != "" && kept(&k) != "file"
	})
	if elsewhere { // where all keys are files there is nothing to tell apart
		header = append(header, "kept")
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.State.Ended() && !all {
			continue
		}
		tokens := ui.T(ui.Faint, "0")
		if l := live[k.KID]; l.Tokens > 0 {
			tokens = ui.C(fmt.Sprintf("%d until %s", l.Tokens, clock(l.LastExpiry)))
		}
		rows = append(rows, []ui.Cell{ui.C(k.KID), ui.T(stateTones[k.State], "%s", k.State), ui.C(clock(k.PublishedAt)), ui.C(since(ring, k)), tokens, ui.C(kept(k))})
	}
	p.Heading("Keys")
	p.Table(header, rows)
	vantagePart(p, r)
	stepsPart(p, r.Steps, r.Now)
}

// kept says where the private half of a key is: in a file, or at which kind of
// provider. Empty once it is destroyed.
func kept(k *keyring.Key) string {
	if k.Private == "" {
		return ""
	}
	where := "file"
	if scheme, _, ok := strings.Cut(k.Private, ":"); ok {
		where = scheme
	}
	if k.Given {
		where += ", yours"
	}
	return where
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// since says what the timetable lets a key do, and from when.
func since(r *keyring.Ring, k *keyring.Key) string {
	switch k.State {
	case keyring.Published:
		return "may sign from " + clock(r.Matures(k))
	case keyring.Active:
		return "signs since " + clock(k.ActivatedAt)
	case keyring.Retiring:
		return "may go from " + clock(r.Outlived(k))
	case keyring.Tainted:
		if k.AliveUntil.IsZero() {
			return "signed nothing; revoke it"
		}
		return "tokens live until " + clock(k.AliveUntil)
	case keyring.Staged:
		return "unknown to verifiers"
	}
	return "ended " + clock(k.EndedAt)
}

func vantagePart(p *ui.Page, r *keyring.Report) {
	if len(r.Vantage) == 0 {
		p.Heading("Vantage points")
		p.Line("none are configured: an activation is guarded by time alone (signing.vantagePoints of the Authority)")
		return
	}
	standby := (&keyring.Ring{Policy: r.Policy, Keys: r.Keys}).Standby()
	var rows [][]ui.Cell
	for _, v := range r.Vantage {
		seen := ui.T(ui.Warn, "never")
		if !v.LastSeen.IsZero() {
			seen = ui.C(clock(v.LastSeen))
		}
		serves := ui.T(ui.Faint, "no standby to look for")
		if standby != nil {
			if at, ok := v.Since[standby.KID]; ok {
				serves = ui.C("since " + clock(at))
			} else {
				serves = ui.T(ui.Warn, "not seen yet")
			}
		}
		rows = append(rows, []ui.Cell{ui.C(v.Name), ui.C(v.URL), seen, serves})
	}
	p.Heading("Vantage points")
	p.Table([]string{"name", "url", "last look", "serves the standby"}, rows)
}

// summaryPage shows what a run of rotate or advance did.
func summaryPage(p *ui.Page, s *rotate.Summary) {
	switch {
	case s.Switched:
		p.Line("switched: %s signs, %s did before", s.To, orNone(s.From))
	case len(s.Changes) == 0:
		p.Line("nothing was due; %s signs", orNone(s.To))
	default:
		p.Line("%s; %s signs", count(int64(len(s.Changes)), "change"), orNone(s.To))
	}
	stepsPart(p, s.Steps, s.Report.Now)
}

// staged tells a new key: made, or taken in from an operator.
func staged(r *keyring.Result) string {
	for _, k := range r.Report.Keys {
		if k.KID == r.KID && k.Given {
			return fmt.Sprintf("%s: taken in, %s", r.KID, r.To)
		}
	}
	return moved(keyring.Moved{KID: r.KID, To: r.To})
}

func moved(m keyring.Moved) string {
	if m.From == "" {
		return fmt.Sprintf("%s: made, %s", m.KID, m.To)
	}
	if m.From == m.To {
		return fmt.Sprintf("%s: scheduled for activation", m.KID)
	}
	return fmt.Sprintf("%s: %s → %s", m.KID, m.From, m.To)
}

func orNone(kid string) string {
	if kid == "" {
		return "no key"
	}
	return kid
}
