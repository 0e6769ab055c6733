package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// queueLen is how many records may wait for the disk; with it full, records
// are lost (and counted) rather than kept without bound.
const queueLen = 1024

// FileOptions of OpenFile. Zero values mean the defaults.
type FileOptions struct {
	Wait   time.Duration // how long a request waits for its record to be in the file; 100 ms
	Sync   time.Duration // how long a record may be in the file before it is on the disk (fsync); 1 s
	Log    *slog.Logger  // told when writing begins to fail and when it works again; nil: discard
	Failed func()        // called once for each record that is lost or late, for a counter; nil: nothing
}

// File is a Sink that appends to a file, one write(2) a record. Replicas may
// share the file. It is safe for concurrent use; Close must be called.
//
// Durability: a record is in the file (it survives a kill of the process) when
// Write returns, unless that took longer than Wait; it is on the disk (it
// survives a loss of power) at the latest FileOptions.Sync later, and at Reopen
// and Close.
type File struct {
	path string
	o    FileOptions
	open func(path string) (target, error)

	queue   chan *job
	orders  chan order
	ended   chan struct{} // closed when the writer is gone
	closing sync.Once
	jobs    sync.Pool
	stuck   atomic.Bool // nobody waits while the writer is known to hang
	failing atomic.Int64
}

// job is a record on its way. Who sends it keeps it only if it comes back.
type job struct {
	line []byte
	done chan error // holds one
	late *time.Timer
}

// order asks the writer for something else.
type order struct {
	end  bool // or reopen
	done chan error
}

var (
	errFull  = errors.New("the queue is full")
	errLate  = errors.New("the file does not take it in time")
	errEnded = errors.New("the audit file is closed")
)

// OpenFile opens or creates the file at path, mode 0600. A file that group or
// others can read, or that is no regular file, is refused.
func OpenFile(path string, o FileOptions) (*File, error) { return openFile(path, o, openTarget) }

func openFile(path string, o FileOptions, open func(string) (target, error)) (*File, error) {
	if o.Wait <= 0 {
		o.Wait = 100 * time.Millisecond
	}
	if o.Sync <= 0 {
		o.Sync = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Failed == nil {
		o.Failed = func() {}
	}
	t, err := open(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, o: o, open: open, queue: make(chan *job, queueLen),
		orders: make(chan order), ended: make(chan struct{})}
	f.jobs.New = func() any {
		j := &job{line: make([]byte, 0, 1024), done: make(chan error, 1), late: time.NewTimer(time.Hour)}
		j.late.Stop()
		return j
	}
	go (&writer{File: f, to: t}).run()
	return f, nil
}

// Write implements Sink. It returns when the record is in the file, or after
// FileOptions.Wait. A record that is late is written when the file recovers,
// unless the process ends before.
func (f *File) Write(ctx context.Context, r *Record) {
	j, ok := f.jobs.Get().(*job)
	if !ok {
		return // not reached: the pool has a New
	}
	j.line = append(r.AppendJSON(j.line[:0]), '\n')
	if err := f.put(j); err != nil {
		f.failed(ctx, err)
	}
}

// put hands j over and waits for it. It gives j back to the pool unless the
// writer may still have it.
func (f *File) put(j *job) error {
	select {
	case <-f.ended:
		f.jobs.Put(j)
		return errEnded
	default:
	}
	select {
	case f.queue <- j:
	default:
		f.jobs.Put(j)
		return errFull
	}
	if f.stuck.Load() {
		return errLate
	}
	j.late.Reset(f.o.Wait)
	gone := errEnded
	select {
	case err := <-j.done:
		j.late.Stop()
		f.jobs.Put(j)
		return err
	case <-j.late.C:
		f.stuck.Store(true)
		gone = errLate
	case <-f.ended:
	}
	select {
	case err := <-j.done: // just now, or with the writer's last breath
		f.stuck.Store(false)
		return err
	default:
		return gone
	}
}

// failed counts a record, and logs the first of a row of failures.
func (f *File) failed(ctx context.Context, err error) {
	f.o.Failed()
	if f.failing.Add(1) == 1 {
		f.o.Log.LogAttrs(context.WithoutCancel(ctx), slog.LevelError, "audit records are not written in time; requests go on",
			slog.String("audit_file", f.path), slog.Any("err", err))
	}
}

// worked ends a row of failures.
func (f *File) worked() {
	f.stuck.Store(false)
	if n := f.failing.Swap(0); n > 0 {
		f.o.Log.LogAttrs(context.Background(), slog.LevelWarn, "audit records are written again",
			slog.String("audit_file", f.path), slog.Int64("lost_or_late", n))
	}
}

// Reopen opens the path again, for log rotation: what comes after it is in the
// new file, and the old one is on the disk. On an error the old file stays in
// use.
func (f *File) Reopen(ctx context.Context) error { return f.order(ctx, false) }

// Close writes what waits, syncs and closes the file. Records written after it
// are lost and counted.
func (f *File) Close(ctx context.Context) error {
	var err error
	f.closing.Do(func() { err = f.order(ctx, true) })
	return err
}

func (f *File) order(ctx context.Context, end bool) error {
	o := order{end, make(chan error, 1)}
	select {
	case f.orders <- o:
	case <-f.ended:
		return errEnded
	case <-ctx.Done():
		return fmt.Errorf("audit file %q: its disk does not answer: %w", f.path, ctx.Err())
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("audit file %q: its disk does not answer: %w", f.path, ctx.Err())
	}
}
