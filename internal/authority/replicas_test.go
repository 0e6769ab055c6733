package authority_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority"
	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mem"
	"github.com/stella-ops/stella/internal/jose/dpop"
	"github.com/stella-ops/stella/internal/testenv"
)

// fleet is what several replicas of one Authority share.
type fleet struct {
	name    string
	storage string
	signing string
	extra   string
	ahead   time.Duration // how far in the future a proof may be made
	deps    func() authority.Deps
}

// fleets are the places in which replicas can share what was used.
func fleets(t *testing.T) []fleet {
	t.Helper()
	shared := mem.New(0)
	none := func() authority.Deps { return authority.Deps{} }
	inMemory := func() authority.Deps { return authority.Deps{Store: unclosed{shared}} }
	mongo := func() string {
		uri, database := testenv.Mongo(t)
		return fmt.Sprintf(`connectionString: %q, databaseName: %s`, uri, database)
	}
	all := []fleet{
		{"memory", memory, "", "", 20 * time.Second, inMemory},
		{"mongo", mongo(), "", "", 20 * time.Second, none},
	}
	redis := testenv.Redis(t)
	// A Redis that has just begun may have forgotten proofs, so none is taken
	// that could have been used before: by the skew of clocks, which is short.
	return append(all, fleet{"redis", mongo(), ", clockSkew: 2s", fmt.Sprintf(
		"redis: {url: %q}\nsecurity: {dpop: {replayStore: redis}}\n", redis.URL()), time.Second, none})
}

// unclosed is a store that outlives the replicas that use it.
type unclosed struct{ store.Store }

// begin starts n replicas with one issuer, whose proofs name the first one.
func (f fleet) begin(t *testing.T, s *site, n int) []*replica {
	t.Helper()
	var all []*replica
	issuer := "https://127.0.0.1:0"
	for i := range n {
		r := s.start(string(rune('a'+i)), s.config(string(rune('a'+i)), issuer, f.storage, f.signing, f.extra), f.deps())
		issuer = r.issuer
		all = append(all, r)
	}
	secret := all[0].client(standard("first"))
	eventually(t, "proofs are taken", func() bool { return all[0].send(all[0].request("first", secret, newProver(t))).status == 200 })
	return all
}

// P18 to P21: a proof works once, on any replica, spelled in any way, at any
// time, in each place where used proofs can be remembered.
func TestReplayAcrossReplicas(t *testing.T) {
	t.Parallel()
	for _, f := range fleets(t) {
		t.Run(f.name, func(t *testing.T) {
			s := newSite(t)
			both := f.begin(t, s, 2)
			a, b := both[0], both[1]
			secret := a.client(standard("svc"))
			send := func(r *replica, proof string) answer {
				q := r.request("svc", secret, nil)
				q.header.Set("DPoP", proof)
				return r.send(q)
			}
			const invalid = "invalid_dpop_proof"
			for name, to := range map[string]*replica{"P18 same replica": a, "P21 other replica": b} {
				p := a.proofParts(t)
				proof := p.sign(t)
				if got := send(a, proof); got.status != 200 {
					t.Fatalf("%s: control: %d %s", name, got.status, got.body)
				}
				refusedAs(t, name, send(to, proof), 400, invalid)
				p.claims["htu"] = a.issuer + "/token?other#x"
				refusedAs(t, name+", P19", send(to, p.sign(t)), 400, invalid)
				if got := send(to, a.proofParts(t).sign(t)); got.status != 200 {
					t.Errorf("%s: control: another proof: %d %s", name, got.status, got.body)
				}
			}
			// P20: made for the future, and again when it would be forgotten by
			// a store that counts from its use.
			p := a.proofParts(t)
			p.claims["iat"] = time.Now().Add(f.ahead).Unix()
			future := p.sign(t)
			if got := send(a, future); got.status != 200 {
				t.Fatalf("P20: control: %d %s", got.status, got.body)
			}
			refusedAs(t, "P20", send(b, future), 400, invalid)
		})
	}
}

// P20 by the clock: the proof is remembered until it is too old everywhere.
func TestFutureProofIsRememberedLongEnough(t *testing.T) {
	s := newSite(t)
	clock := &testClock{now: time.Now()}
	st := mem.New(0)
	st.Now = clock.Now
	r := s.start("a", s.config("a", "https://127.0.0.1:0", memory, `, signLease: "00:05:00"`, "accessTokenLifetime: 1h\n"),
		authority.Deps{Store: st, Now: clock.Now})
	secret := r.client(standard("svc"))
	p := r.proofParts(t)
	p.claims["iat"] = clock.Now().Add(25 * time.Second).Unix()
	proof := p.sign(t)
	send := func() answer {
		q := r.request("svc", secret, nil)
		q.header.Set("DPoP", proof)
		return r.send(q)
	}
	if a := send(); a.status != 200 {
		t.Fatalf("control: %d %s", a.status, a.body)
	}
	for range 12 {
		clock.Add(10 * time.Second)
		if err := st.SweepOnce(t.Context(), clock.Now()); err != nil {
			t.Fatal(err)
		}
		if a := send(); a.status == 200 {
			t.Fatalf("accepted again at %s", clock.Now())
		}
	}
}

// testClock is a clock that tests move.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// race sends n requests that are made beforehand, all at once, in turn to each
// replica.
func race(t *testing.T, all []*replica, n int, prepare func(r *replica) func() answer) []answer {
	t.Helper()
	var sends []func() answer
	for i := range n {
		sends = append(sends, prepare(all[i%len(all)]))
	}
	answers := make([]answer, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, send := range sends {
		wg.Go(func() {
			<-start
			answers[i] = send()
		})
	}
	close(start)
	wg.Wait()
	return answers
}

func won(answers []answer) (good []answer) {
	for _, a := range answers {
		if a.status == http.StatusOK {
			good = append(good, a)
		}
	}
	return good
}

// Of 50 uses of one device code at three replicas, one gets a token.
func TestDeviceCodeRace(t *testing.T) {
	t.Parallel()
	for _, f := range fleets(t) {
		t.Run(f.name, func(t *testing.T) {
			all := f.begin(t, newSite(t), 3)
			all[0].client(public("cli"))
			all[0].user("ana")
			b := all[0].device("cli")
			all[0].approve("ana", b)
			p := newProver(t)
			got := race(t, all, 50, func(r *replica) func() answer {
				q := all[0].grantRequest("cli", p, deviceForm(b))
				return func() answer { return r.send(q) }
			})
			if n := len(won(got)); n != 1 {
				t.Fatalf("%d tokens for one code: %s", n, got[0].body)
			}
			for _, a := range got {
				if a.status != 200 {
					refusedAs(t, "the others", a, 400, "invalid_grant")
				}
			}
		})
	}
}

// O14: of 50 uses of one refresh token at most one is answered, and then
// nothing of the family works any more, on no replica.
func TestRefreshRace(t *testing.T) {
	t.Parallel()
	for _, f := range fleets(t) {
		t.Run(f.name, func(t *testing.T) {
			all := f.begin(t, newSite(t), 3)
			all[0].client(public("cli"))
			all[0].user("ana")
			p := newProver(t)
			first := all[0].logIn("cli", "ana", p)
			got := race(t, all, 50, func(r *replica) func() answer {
				q := all[0].grantRequest("cli", p, refreshForm(first.field("refresh_token")))
				return func() answer { return r.send(q) }
			})
			good := won(got)
			if len(good) > 1 {
				t.Fatalf("%d answers for one refresh token", len(good))
			}
			for _, a := range append(good, first) {
				for _, r := range all {
					refusedAs(t, "a token of the family", r.grantAs(all[0], "cli", p, refreshForm(a.field("refresh_token"))), 400, "invalid_grant")
				}
			}
			again := all[0].logIn("cli", "ana", p)
			if a := all[1].grantAs(all[0], "cli", p, refreshForm(again.field("refresh_token"))); a.status != 200 {
				t.Errorf("control: another family: %d %s", a.status, a.body)
			}
		})
	}
}

// grantAs is grant with a proof for the issuer's URL, which is that of named.
func (r *replica) grantAs(named *replica, clientID string, p *dpop.Prover, form map[string][]string) answer {
	r.t.Helper()
	return r.send(named.grantRequest(clientID, p, form))
}
