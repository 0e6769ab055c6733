package authority

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/authority/token"
	"github.com/stella-ops/stella/internal/signals"
)

// How the database is watched and kept small.
const (
	dbEvery   = time.Second
	dbFirst   = 250 * time.Millisecond // first pause after a failure
	dbSlowest = 5 * time.Second
	dbLook    = 2 * time.Second // bound of one look

	sweepEvery = time.Minute
	// sweepLate is how long after its end an identifier is kept, so that a
	// replica whose clock is ahead forgets nothing that another still needs.
	sweepLate = 10 * time.Minute
	// sweepRecordsLate is the same for records, which are few: lockouts and
	// revocations must not go because one clock is an hour fast.
	sweepRecordsLate = 24 * time.Hour
)

// nonceSecret is the name of the shared secret of DPoP nonces.
const nonceSecret = "dpop-nonce/v1"

// database knows whether the store answers.
type database struct {
	s      *Server
	state  atomic.Pointer[dbState]
	secret atomic.Pointer[[]byte]
	looked bool // used by look only, which runs once at a time
}

type dbState struct{ err error }

func (d *database) set(err error) { d.state.Store(&dbState{err}) }

// Err is why the store cannot be used now, or nil.
func (d *database) Err() error { return d.state.Load().err }

// look asks the store once. The first success brings the shared secret.
func (d *database) look(parent context.Context) {
	ctx, cancel := context.WithTimeout(parent, min(dbLook, d.s.cfg.Storage.CommandTimeout.Std()))
	defer cancel()
	err := d.s.store.Ping(ctx)
	if err == nil && d.secret.Load() == nil {
		if err = d.s.firstUser(ctx); err == nil {
			err = d.share(ctx)
		}
	}
	if err != nil {
		err = fmt.Errorf("database out of reach: %w", err)
	} else if d.s.redis != nil && d.s.cfg.Security.DPoP.ReplayStore == replayRedis {
		if err = d.s.redis.Ping(ctx); err != nil {
			err = fmt.Errorf("used proofs cannot be remembered: %w", err)
		}
	}
	if parent.Err() != nil {
		return // the end of this process says nothing about the database
	}
	changed := !d.looked || (d.Err() == nil) != (err == nil)
	d.looked = true
	d.set(err)
	switch {
	case !changed:
	case err != nil:
		d.s.log.ErrorContext(ctx, "database out of reach; not ready, trying again", "err", err)
	default:
		d.s.log.InfoContext(ctx, "database reached")
	}
}

// share fetches the secret that all replicas make nonces with, or makes it.
func (d *database) share(ctx context.Context) error {
	candidate := make([]byte, token.NonceSecretBytes)
	if _, err := rand.Read(candidate); err != nil {
		return err
	}
	secret, err := d.s.store.Secret(ctx, nonceSecret, candidate)
	if err != nil {
		return err
	}
	if len(secret) != token.NonceSecretBytes {
		return fmt.Errorf("the shared nonce secret has %d bytes, not %d", len(secret), token.NonceSecretBytes)
	}
	d.secret.Store(&secret)
	d.s.renewNonces()
	return nil
}

// watch looks every second, and with growing pauses while the store is down.
func (d *database) watch(ctx context.Context) {
	pause := dbFirst
	for {
		wait := dbEvery
		if d.Err() != nil {
			wait, pause = pause, min(2*pause, dbSlowest)
		} else {
			pause = dbFirst
		}
		if signals.Sleep(ctx, wait) != nil {
			return
		}
		d.look(ctx)
	}
}

// renewNonces makes nonces by the current settings once the secret is known.
func (s *Server) renewNonces() {
	if secret := s.db.secret.Load(); secret != nil {
		lifetime := s.set.Load().cfg.Security.DPoP.NonceLifetime.Std()
		s.nonces.Store(token.NewNonces(*secret, s.issuer, lifetime))
	}
}

// sweep removes what has expired from the store.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.db.Err() != nil {
			continue
		}
		op, cancel := context.WithTimeout(ctx, s.cfg.Storage.CommandTimeout.Std())
		now := s.now()
		err := s.once.SweepOnce(op, now.Add(-sweepLate))
		if err == nil {
			err = s.store.SweepOnce(op, now.Add(-sweepLate))
		}
		if err == nil {
			err = s.store.SweepRecords(op, now.Add(-sweepRecordsLate))
		}
		if err == nil {
			// A writer that was silent for longer than any token lives has
			// no live tokens left, and will never write again.
			dead := now.Add(-2*s.cfg.AccessTokenLifetime.Std() - sweepLate)
			err = s.store.SweepCounts(op, now.Add(-sweepLate), dead)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sweeping the database", "err", err)
		}
	}
}
