package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/testenv"
)

const (
	// between is how many tokens lie between two looks.
	between = 50_000
	// settled is the time after which as many used proofs are forgotten as
	// come: each is remembered for a minute at most, and sweeps are a while
	// apart.
	settled = 2 * time.Minute
)

// look is what a server holds at one time.
type look struct {
	tokens     int
	after      time.Duration
	resident   float64 // bytes
	heap, live float64 // bytes in use, as found and after a collection
	goroutines float64
}

// watchMemory lets one server issue tokens and prints what it holds.
func watchMemory(ctx context.Context, ca *testenv.CA, dir string, tokens int) error {
	srv, err := startServer(ctx, ca, dir, memoryStore)
	if err != nil {
		return err
	}
	defer srv.stop()
	l, err := newLoad(ctx, ca, srv)
	if err != nil {
		return err
	}
	fmt.Printf("memory of one server, store in memory, while it issues %d tokens\n", tokens)
	fmt.Printf("%9s %7s %9s %13s %13s %13s %11s\n", "tokens", "s", "tokens/s", "resident, MiB", "heap, MiB", "live, MiB", "goroutines")
	began := time.Now()
	var looks []look
	for done := 0; ; {
		k, err := srv.look(ctx)
		if err != nil {
			return err
		}
		k.tokens, k.after = done, time.Since(began)
		looks = append(looks, k)
		fmt.Printf("%9d %7.0f %9.0f %13.1f %13.1f %13.1f %11.0f\n", done, k.after.Seconds(), float64(done)/k.after.Seconds(),
			mib(k.resident), mib(k.heap), mib(k.live), k.goroutines)
		if done >= tokens {
			break
		}
		n := min(between, tokens-done)
		if err := parallel(ctx, make([]*job, n), func(ctx context.Context, _ *job) error { _, err := l.token(ctx); return err }); err != nil {
			return err
		}
		done += n
		// The log is open for appending, so cutting it off loses nothing but
		// what was written; a million tokens would fill a small disk.
		if err := os.Truncate(srv.proc.Log, 0); err != nil {
			return err
		}
	}
	reportSlope(looks)
	return nil
}

// reportSlope prints what each token left behind once the server was in
// balance.
func reportSlope(looks []look) {
	var late []look
	for _, k := range looks {
		if k.after >= settled {
			late = append(late, k)
		}
	}
	if len(late) < 3 {
		fmt.Printf("no slope: it takes %s until as many used proofs are forgotten as come; -tokens 1000000 is enough\n", settled)
		return
	}
	for _, of := range []struct {
		name string
		get  func(look) float64
	}{{"resident", func(k look) float64 { return k.resident }}, {"live heap", func(k look) float64 { return k.live }}} {
		fmt.Printf("%s after %s: %+.1f bytes a token\n", of.name, settled, slope(late, of.get))
	}
}

// slope is the least-squares slope over the number of tokens.
func slope(looks []look, get func(look) float64) float64 {
	var n, x, y, xx, xy float64
	for _, k := range looks {
		t, v := float64(k.tokens), get(k)
		n, x, y, xx, xy = n+1, x+t, y+v, xx+t*t, xy+t*v
	}
	return (n*xy - x*y) / (n*xx - x*x)
}

func mib(bytes float64) float64 { return bytes / (1 << 20) }

// look asks the admin listener.
func (p *process) look(ctx context.Context) (look, error) {
	found, err := p.gauges(ctx)
	if err != nil {
		return look{}, err
	}
	if _, err := p.admin(ctx, "/debug/pprof/heap?gc=1"); err != nil {
		return look{}, err
	}
	clean, err := p.gauges(ctx)
	return look{
		resident: found["process_resident_memory_bytes"], heap: found["go_memstats_heap_inuse_bytes"],
		live: clean["go_memstats_heap_alloc_bytes"], goroutines: found["go_goroutines"],
	}, err
}

// gauges reads the metrics that have no labels.
func (p *process) gauges(ctx context.Context) (map[string]float64, error) {
	text, err := p.admin(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for in := bufio.NewScanner(strings.NewReader(text)); in.Scan(); {
		name, value, _ := strings.Cut(in.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = v
		}
	}
	for _, name := range []string{"process_resident_memory_bytes", "go_memstats_heap_inuse_bytes", "go_memstats_heap_alloc_bytes", "go_goroutines"} {
		if _, ok := all[name]; !ok {
			return nil, fmt.Errorf("/metrics has no %s", name)
		}
	}
	return all, nil
}

func (p *process) admin(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.proc.AdminURL()+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return string(data), err
}
