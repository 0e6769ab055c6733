package testenv

import (
	"context"
	"testing"
	"time"
)

// TestRedis: servers do not meet, go when told or when their context ends, and
// come back at the same address.
func TestRedis(t *testing.T) {
	a := Redis(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b, err := StartRedis(ctx, a.program, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if a.Addr() == b.Addr() || a.URL() != "redis://"+a.Addr() {
		t.Errorf("%s and %s", a.URL(), b.URL())
	}
	ended := b.done
	cancel()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("it outlives its context")
	}
	for _, end := range []func(){a.Stop, a.Kill, a.Stop} {
		end()
		if err := redisPing(a.Addr()); err == nil {
			t.Error("it answers after its end")
		}
	}
	if err := a.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := redisPing(a.Addr()); err != nil {
		t.Error(err)
	}
	if _, err := StartRedis(t.Context(), a.program, t.TempDir(), "--no-such-option", "x"); err == nil {
		t.Error("a server that cannot start has started")
	}
}
