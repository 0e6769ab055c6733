package publish

import (
	"context"
	"sync"

	"github.com/stella-ops/stella/internal/release"
)

// parcel is a release that is ready to be put to its place.
type parcel struct {
	st       *release.Statement
	data     []byte // the statement
	jws      []byte // its signature file
	both     []byte // the same with the signatures of the release before; nil without one
	files    []*file
	shown    *believed // what was shown when the run began; nil if nothing was
	copies   bool
	resumed  bool   // an earlier run has put it there already
	has      []byte // its signature file then
	parallel int
	meter    func(EventType) func(members int, bytes int64)
	notify   func(t EventType, members int, bytes int64)

	vouched                   string // digest that the object copied has; "" for none
	uploaded, copied, removed int
	sent                      int64
}

func (j *job) newParcel(st *release.Statement, data []byte) *parcel {
	return &parcel{
		st: st, data: data, files: j.files, shown: j.shown, copies: j.o.CopyMembers, resumed: j.there != nil,
		parallel: j.o.Parallel, meter: j.meter, notify: j.notify,
	}
}

func (j *job) notify(t EventType, members int, bytes int64) {
	if j.o.Notify == nil {
		return
	}
	var total int64
	for _, f := range j.files {
		total += f.Size
	}
	j.o.Notify(Event{t, j.id, members, bytes, total})
}

// meter counts what many goroutines do.
func (j *job) meter(t EventType) func(int, int64) {
	var mu sync.Mutex
	e := Event{Type: t, ExportID: j.id}
	for _, f := range j.files {
		e.Total += f.Size
	}
	return func(members int, bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		e.Members += members
		e.Bytes += bytes
		if j.o.Notify != nil {
			j.o.Notify(e)
		}
	}
}

// each does something for all files, several at a time. The first error ends
// the others.
func each(ctx context.Context, parallel int, files []*file, do func(context.Context, *file) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *file)
	var wg sync.WaitGroup
	for range min(parallel, len(files)) {
		wg.Go(func() {
			for f := range queue {
				if err := do(ctx, f); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, f := range files {
		select {
		case queue <- f:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}
