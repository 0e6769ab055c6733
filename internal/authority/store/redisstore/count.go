package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// countLua adds one and gives a new counter its end, in one step: a counter
// without an end would stay for good.
const countLua = `
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return n
`

func newScripts() scripts {
	return scripts{use: redis.NewScript(useLua), look: redis.NewScript(lookLua), count: redis.NewScript(countLua)}
}

// Count adds one to the counter of that name and returns what it is now, at
// least 1. Concurrent calls of all replicas get different numbers. A counter is
// forgotten ttl after its first call, or earlier if the server loses its
// memory. An error means that it may or may not have been counted.
func (s *Store) Count(ctx context.Context, name string, ttl time.Duration) (int64, error) {
	n, err := s.scripts.count.Run(ctx, s.client, []string{s.prefix + "count:" + short(name)}, max(ttl, time.Millisecond).Milliseconds()).Int64()
	if err != nil {
		return 0, fmt.Errorf("counting in Redis: %w", full(err))
	}
	return n, nil
}
