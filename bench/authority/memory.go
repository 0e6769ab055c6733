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

// looks is how often a server is looked at, but for the first time.
const looks = 20

// issuing is a way to get tokens, and what the server must remember of it.
type issuing struct {
	kind, note string
	do         func(context.Context, *load) error
}

func issuings() []issuing {
	return []issuing{
		{"mtls", "client_credentials, mTLS: nothing to remember", func(ctx context.Context, l *load) error { return l.certToken(ctx) }},
		{"token", "client_credentials, DPoP: remembers up to 2^20 used proofs, and sweeps minutes after their end or when that is full",
			func(ctx context.Context, l *load) error { _, err := l.token(ctx); return err }},
	}
}

// look is what a server holds at one time.
type look struct {
	tokens     int
	after      time.Duration
	resident   float64 // bytes
	heap, live float64 // bytes in use, as found and after a collection
	goroutines float64
}

// watchMemory lets one server issue tokens and prints what it holds. At the
// start that is above all what hashing the passwords of the users took.
func watchMemory(ctx context.Context, ca *testenv.CA, dir string, way issuing, tokens int) error {
	srv, err := startServer(ctx, ca, dir, memoryStore)
	if err != nil {
		return err
	}
	defer srv.stop()
	l, err := newLoad(ctx, ca, srv)
	if err != nil {
		return err
	}
	fmt.Printf("memory of one server, store in memory, while it issues %d tokens; %s\n", tokens, way.note)
	fmt.Printf("%9s %7s %9s %13s %13s %13s %11s\n", "tokens", "s", "tokens/s", "resident, MiB", "heap, MiB", "live, MiB", "goroutines")
	began := time.Now()
	var seen []look
	for done := 0; ; {
		k, err := srv.look(ctx)
		if err != nil {
			return err
		}
		k.tokens, k.after = done, time.Since(began)
		seen = append(seen, k)
		fmt.Printf("%9d %7.0f %9.0f %13.1f %13.1f %13.1f %11.0f\n", done, k.after.Seconds(), float64(done)/k.after.Seconds(),
			mib(k.resident), mib(k.heap), mib(k.live), k.goroutines)
		if done >= tokens {
			break
		}
		n := min(max(1, tokens/looks), tokens-done)
		if err := parallel(ctx, make([]*job, n), func(ctx context.Context, _ *job) error { return way.do(ctx, l) }); err != nil {
			return err
		}
		done += n
		// The log is open for appending, so cutting it off loses nothing but
		// what was written; a million tokens would fill a small disk.
		if err := os.Truncate(srv.proc.Log, 0); err != nil {
			return err
		}
	}
	reportSlope(seen)
	return nil
}

// reportSlope prints what each token of the last quarter left behind.
func reportSlope(all []look) {
	late := all[len(all)*3/4:]
	if len(late) < 3 {
		fmt.Printf("too few looks for a slope\n\n")
		return
	}
	from := late[0].tokens
	fmt.Printf("after %d tokens: resident %+.1f bytes a token, live heap %+.1f bytes a token\n\n", from,
		slope(late, func(k look) float64 { return k.resident }), slope(late, func(k look) float64 { return k.live }))
}

// slope is the least-squares slope over the number of tokens.
func slope(all []look, get func(look) float64) float64 {
	var n, x, y, xx, xy float64
	for _, k := range all {
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
