package mirror

import (
	"context"
	"sync"
)

// each calls do for every item, in order, on at most n goroutines. The first
// error ends the context of the others and is returned, when all have ended.
func each[T any](ctx context.Context, n int, list []T, do func(context.Context, int, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan int)
	go func() {
		defer close(queue)
		for i := range list {
			select {
			case queue <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	for range min(n, len(list)) {
		wg.Go(func() {
			for i := range queue {
				if ctx.Err() != nil {
					return
				}
				if err := do(ctx, i, list[i]); err != nil {
					once.Do(func() { failed = err; cancel(err) })
				}
			}
		})
	}
	wg.Wait()
	if failed == nil {
		failed = context.Cause(ctx)
	}
	return failed
}
