package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
)

const (
	connections = 4   // of a closed loop
	inFlight    = 64  // at most, of an open one
	share       = 0.7 // of the highest rate
)

// parallel does all jobs, each of the connections one after another, and
// returns the first error.
func parallel(ctx context.Context, jobs []*job, do func(context.Context, *job) error) error {
	return workers(connections, len(jobs), func(i int) error { return do(ctx, jobs[i]) })
}

// workers calls do with 0 to n-1, until an error.
func workers(count, n int, do func(i int) error) error {
	var next atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for range count {
		wg.Go(func() {
			for first.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

// figures are what came out for one step: one of each a round or run.
type figures struct {
	server, floor, crypto []time.Duration // CPU of one
	rate, floorRate       []float64       // a second, in a closed loop
	loaded, loadedFloor   latency         // at 70 % of the highest rate
}

// latency is what one step took: one figure a run.
type latency struct{ p50, p99, worst []time.Duration }

// measurement measures one kind of request.
type measurement struct {
	kind   kind
	server *process
	floor  *process
	alone  *floor
	load   *load
	caller *floorCaller
	steps  []figures
	rate   float64 // jobs a second of the open loop
	jobs   int     // in one run of it
}

func measure(ctx context.Context, ca *testenv.CA, dir, storage string, k kind, o options) (*measurement, error) {
	m := &measurement{kind: k, steps: make([]figures, len(k.steps))}
	var err error
	if m.server, err = startServer(ctx, ca, dir, storage); err != nil {
		return nil, err
	}
	defer m.server.stop()
	if m.floor, err = startFloor(ctx, ca, dir); err != nil {
		return nil, err
	}
	defer m.floor.stop()
	if m.load, err = newLoad(ctx, ca, m.server); err != nil {
		return nil, err
	}
	if m.alone, err = newFloor(); err != nil {
		return nil, err
	}
	m.caller = &floorCaller{client: ca.Client(), url: m.floor.proc.URL()}
	return m, m.run(ctx, o)
}

// run measures; of rounds and runs the first warms up and is dropped.
func (m *measurement) run(ctx context.Context, o options) error {
	for n := range o.rounds + 1 {
		if err := m.round(ctx, n > 0); err != nil {
			return err
		}
	}
	var each float64 // seconds of one job
	for _, f := range m.steps {
		each += 1 / median(f.rate)
	}
	m.rate = share / each
	m.jobs = min(m.kind.most, max(1, int(m.rate*o.span.Seconds())))
	for n := range o.repeats + 1 {
		jobs, err := m.newJobs(ctx, m.jobs)
		if err != nil {
			return err
		}
		ours := func(f *figures) *latency { return &f.loaded }
		if err := m.open(n > 0, ours, func(s step, n int) error { return s.do(ctx, m.load, jobs[n]) }); err != nil {
			return err
		}
		floors := func(f *figures) *latency { return &f.loadedFloor }
		if err := m.open(n > 0, floors, func(s step, _ int) error { return m.caller.do(ctx, s.work) }); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) newJobs(ctx context.Context, n int) ([]*job, error) {
	jobs := make([]*job, n)
	for i := range jobs {
		jobs[i] = &job{}
	}
	if m.kind.stock == nil {
		return jobs, nil
	}
	return jobs, m.kind.stock(ctx, m.load, jobs)
}

// round does every step for a round of jobs, and the floor of it right after.
func (m *measurement) round(ctx context.Context, keep bool) error {
	n := m.kind.jobs
	jobs, err := m.newJobs(ctx, n)
	if err != nil {
		return err
	}
	for i, s := range m.kind.steps {
		wall, cpu, err := closed(m.server, func() error {
			return parallel(ctx, jobs, func(ctx context.Context, j *job) error { return s.do(ctx, m.load, j) })
		})
		if err != nil {
			return err
		}
		floorWall, floorCPU, err := closed(m.floor, func() error {
			return parallel(ctx, jobs, func(ctx context.Context, _ *job) error { return m.caller.do(ctx, s.work) })
		})
		if err != nil {
			return err
		}
		runtime.GC() // so that collecting the load generator's garbage is not counted
		crypto, err := m.alone.time(ctx, s.work, n)
		if err != nil {
			return err
		}
		if !keep {
			continue
		}
		f, count := &m.steps[i], time.Duration(n)
		f.server, f.floor, f.crypto = append(f.server, cpu/count), append(f.floor, floorCPU/count), append(f.crypto, crypto/count)
		f.rate = append(f.rate, float64(n)/wall.Seconds())
		f.floorRate = append(f.floorRate, float64(n)/floorWall.Seconds())
	}
	return nil
}

// closed returns the wall time of f and the CPU time of a process during it.
func closed(p *process, f func() error) (wall, cpu time.Duration, err error) {
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return 0, 0, err
	}
	wall = time.Since(began)
	after, err := p.cpu()
	return wall, after - before, err
}

// open lets jobs arrive at a constant rate, whatever became of those before
// them. The first step of a job is timed from the moment at which it was due,
// so waiting for the load generator counts too.
func (m *measurement) open(keep bool, of func(*figures) *latency, do func(s step, n int) error) error {
	took := make([][]time.Duration, len(m.kind.steps))
	for i := range took {
		took[i] = make([]time.Duration, m.jobs)
	}
	runtime.GC()
	began := time.Now()
	err := workers(inFlight, m.jobs, func(n int) error {
		due := began.Add(time.Duration(float64(n) / m.rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		for i, s := range m.kind.steps {
			if err := do(s, n); err != nil {
				return err
			}
			now := time.Now()
			took[i][n], due = now.Sub(due), now
		}
		return nil
	})
	if err != nil || !keep {
		return err
	}
	for i, t := range took {
		slices.Sort(t)
		l := of(&m.steps[i])
		l.p50, l.p99, l.worst = append(l.p50, t[len(t)/2]), append(l.p99, t[len(t)*99/100]), append(l.worst, t[len(t)-1])
	}
	return nil
}

func median[T float64 | time.Duration](v []T) T { return slices.Sorted(slices.Values(v))[len(v)/2] }
