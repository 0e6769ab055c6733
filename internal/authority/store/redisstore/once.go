package redisstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/fault"
)

// late is how long after its end an identifier is kept, so that neither a
// replica whose clock is ahead nor a clock of the server's that is set forward
// makes it forget what another replica still needs.
const late = 10 * time.Minute

// apart is how much the clocks of replicas may differ without harm when the
// server loses its memory.
const apart = 2 * time.Second

// ErrForgotten means that the server may have forgotten an earlier use of the
// identifier, so nobody can tell whether this one is the first.
var ErrForgotten = errors.New("the Redis server has lost its memory since this identifier may first have been used")

// The mark says since when (a replica's Unix milliseconds) the server's memory
// is whole, and which process holds it. A server that has restarted, with or
// without an old snapshot, is another process; one that was flushed has no
// mark. Then the mark is made anew, by whoever comes first, with his time.
//
// INFO is made inside the script so that nothing can happen between the look
// and the use.
const markLua = `
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not run then return redis.error_reply('ERR no run_id in INFO') end
local since, lost = nil, 0
local mark = redis.call('GET', KEYS[1])
if mark then
  local r, t = string.match(mark, '^(%x+) (%d+)$')
  if r == run then since = t end
end
if not since then
  since, lost = ARGV[1], 1
  local done = redis.pcall('SET', KEYS[1], run .. ' ' .. since)
  if done.err then return done end
end
`

// SET NX is the unique insert: exactly one caller gets 1.
const useLua = markLua + `
if tonumber(ARGV[2]) < tonumber(since) then return {-1, since, lost} end
local done = redis.pcall('SET', KEYS[2], '1', 'NX', 'PX', ARGV[3])
if not done then return {0, since, lost} end
if done.err then return done end
return {1, since, lost}
`

const lookLua = markLua + `
return {1, since, lost}
`

// scripts of the server; each is loaded where it is missing.
type scripts struct{ use, look, count *redis.Script }

// Once implements the store.Once of all replicas. It answers store.ErrFull when
// the server has no room, ErrForgotten as long as it cannot know, and any other
// error when the server is out of reach; then the identifier may or may not
// have been used up.
func (s *Store) Once(ctx context.Context, kind, id string, until time.Time) (bool, error) {
	now := s.now()
	span, ok := s.spans[kind]
	if !ok {
		return false, fmt.Errorf("internal error: no span is known for identifiers of kind %q", kind)
	}
	if until.After(now.Add(span)) {
		return false, fmt.Errorf("an identifier of kind %q is good for longer than %s", kind, span)
	}
	key := s.prefix + "once:" + short(kind+"\x00"+id)
	ttl := max(until.Sub(now), 0) + late
	code, err := s.run(ctx, s.scripts.use, []string{s.markKey(), key},
		now.UnixMilli(), until.Add(-span-apart).UnixMilli(), ttl.Milliseconds())
	switch {
	case err != nil:
		return false, fmt.Errorf("using up an identifier in Redis: %w", err)
	case code < 0:
		return false, ErrForgotten
	}
	return code == 1, nil
}

// SweepOnce implements store.Once. The server forgets by itself, ten minutes
// after the end that Once was told.
func (s *Store) SweepOnce(ctx context.Context, _ time.Time) error { return ctx.Err() }

// Ping reports whether the server answers and is fit for use. An error of kind
// fault.Config means that it answers but is set up so that it would forget
// early. Called every second, it also keeps short what a loss of memory costs.
func (s *Store) Ping(ctx context.Context) error {
	info, err := s.client.Info(ctx, "memory").Result()
	if err != nil {
		return fmt.Errorf("pinging Redis: %w", err)
	}
	policy := field(info, "maxmemory_policy")
	if policy != "noeviction" {
		return fault.Errorf(fault.Config, "the Redis server has maxmemory-policy %.32q: it would forget used proofs early", policy).
			Hint("redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf")
	}
	if _, err := s.run(ctx, s.scripts.look, []string{s.markKey()}, s.now().UnixMilli()); err != nil {
		return fmt.Errorf("pinging Redis: %w", err)
	}
	return nil
}

func (s *Store) markKey() string { return s.prefix + "memory" }

// run runs a script that begins with markLua and returns its first number.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) (int64, error) {
	got, err := script.Run(ctx, s.client, keys, args...).Slice()
	if err != nil {
		return 0, full(err)
	}
	if len(got) != 3 {
		return 0, fmt.Errorf("internal error: the script returned %d values", len(got))
	}
	code, ok1 := got[0].(int64)
	since, ok2 := got[1].(string)
	lost, ok3 := got[2].(int64)
	if !ok1 || !ok2 || !ok3 {
		return 0, errors.New("internal error: the script returned values of other types")
	}
	if ms, err := strconv.ParseInt(since, 10, 64); err == nil && lost == 1 {
		s.log.LogAttrs(ctx, slog.LevelWarn, "the Redis server is new or has lost its memory; proofs and assertions that may have been used before are refused",
			slog.Time("since", time.UnixMilli(ms).UTC()))
	}
	return code, nil
}

// full turns the server's word for "no room" into ours.
func full(err error) error {
	if strings.Contains(err.Error(), "OOM command not allowed") {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

func field(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return v
		}
	}
	return ""
}

// short is a hash of fixed size, whatever the identifier and its alphabet.
func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
