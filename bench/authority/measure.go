package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
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
	p50, p99, worst       []time.Duration // at 70 % of the rate
}

// measurement measures one kind of request.
type measurement struct {
	kind   kind
	server *process
	floor  *process
	caller *floorCaller
	steps  []figures
	load   float64 // jobs a second of the open loop
	jobs   int     // in one run of it
}

func (m *measurement) run(ctx context.Context, o options) error {
	m.steps = make([]figures, len(m.kind.steps))
	alone, err := newFloor()
	if err != nil {
		return err
	}
	for round := range o.rounds + 1 { // the first round warms up and is dropped
		if err := m.round(ctx, alone, round > 0); err != nil {
			return err
		}
	}
	var each float64 // seconds of one job
	for _, f := range m.steps {
		each += 1 / median(f.rate)
	}
	m.load = share / each
	m.jobs = min(m.kind.most, max(1, int(m.load*o.span.Seconds())))
	for range o.repeats {
		if err := m.open(ctx); err != nil {
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
	return jobs, m.kind.stock(ctx, jobs)
}

// round does every step for a round of jobs, and the floor of it right after.
func (m *measurement) round(ctx context.Context, alone *floor, keep bool) error {
	n := m.kind.jobs
	jobs, err := m.newJobs(ctx, n)
	if err != nil {
		return err
	}
	for i, s := range m.kind.steps {
		wall, cpu, err := closed(m.server, func() error { return parallel(ctx, jobs, s.do) })
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
		crypto, err := alone.alone(ctx, s.work, n)
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
func (m *measurement) open(ctx context.Context) error {
	jobs, err := m.newJobs(ctx, m.jobs)
	if err != nil {
		return err
	}
	took := make([][]time.Duration, len(m.kind.steps))
	for i := range took {
		took[i] = make([]time.Duration, m.jobs)
	}
	runtime.GC()
	began := time.Now()
	err = workers(inFlight, m.jobs, func(n int) error {
		due := began.Add(time.Duration(float64(n) / m.load * float64(time.Second)))
		time.Sleep(time.Until(due))
		for i, s := range m.kind.steps {
			if err := s.do(ctx, jobs[n]); err != nil {
				return err
			}
			now := time.Now()
			took[i][n], due = now.Sub(due), now
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, t := range took {
		slices.Sort(t)
		f := &m.steps[i]
		f.p50, f.p99, f.worst = append(f.p50, t[len(t)/2]), append(f.p99, t[len(t)*99/100]), append(f.worst, t[len(t)-1])
	}
	return nil
}

func median[T float64 | time.Duration](v []T) T { return slices.Sorted(slices.Values(v))[len(v)/2] }
