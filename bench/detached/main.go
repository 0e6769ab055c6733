// Command detached measures the verification of a detached JWS over one big
// file, beside a floor: the same hash over the same bytes, read from a file
// with the same buffer size and nothing else done.
//
// It guarantees that floor and verification are taken in turn in the same run,
// each in a process of its own, so that peak resident memory (getrusage(2)) is
// that of the one measured; that every verification counted said yes; and that
// the hashed bytes are the same ones: for base64url the floor reads a file that
// is encoded already. It asserts nothing about speed.
package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/detached"
)

const (
	targetRatio  = 0.9      // of the floor's throughput, at least
	targetMemory = 48 << 20 // bytes resident, at most

	bufferSize = 256 << 10
	roleEnv    = "STELLA_BENCH_DETACHED"
	plainFile  = "payload.json"
	codedFile  = "payload.b64"
	keyFile    = "key.json"
)

// contest is one line of the report.
type contest struct {
	alg  jose.Alg
	name string // of the encoding
	enc  detached.Encoding
	hash crypto.Hash
	file string // what the floor reads
}

func contests() []contest {
	return []contest{
		{jose.ES256, "b64:false", detached.Unencoded, crypto.SHA256, plainFile},
		{jose.ES256, "base64url", detached.Base64URL, crypto.SHA256, codedFile},
		{jose.EdDSA, "b64:false", detached.Unencoded, crypto.SHA512, plainFile},
		{jose.EdDSA, "base64url", detached.Base64URL, crypto.SHA512, codedFile},
	}
}

// sample is what one process took.
type sample struct {
	took time.Duration
	peak int64 // bytes
}

func main() {
	ctx := context.Background()
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		err = run(ctx)
	case "floor":
		err = child(func() error { return floor(os.Args[1], os.Args[2]) })
	case "verify":
		err = child(func() error { return verify(ctx, os.Args[1], os.Args[2]) })
	default:
		err = errors.New("unknown role")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "detached:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	size := flag.Int64("size", 1024, "payload size in MiB")
	rounds := flag.Int("rounds", 7, "rounds counted; one more is dropped")
	under := flag.String("dir", "", "folder for the files, 7/3 of the size (default: the system's)")
	flag.Parse()
	if *size < 1 || *rounds < 1 {
		return errors.New("size and rounds are at least 1")
	}
	dir, err := os.MkdirTemp(*under, "stella-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makePayload(dir, *size<<20); err != nil {
		return fmt.Errorf("making the payload: %w", err)
	}
	fmt.Printf("machine: %s/%s, %d CPUs, %s; payload %d MiB from the page cache; %d rounds in turn, medians (min–max)\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), *size, *rounds)
	fmt.Printf("%-16s %30s %30s %8s %16s\n", "", "floor, MiB/s hashed", "verify, MiB/s hashed", "ratio", "resident (floor)")
	fast, small := true, true
	for _, c := range contests() {
		f, s, err := c.run(ctx, dir, *rounds)
		if err != nil {
			return fmt.Errorf("%s %s: %w", c.alg, c.name, err)
		}
		f, s = fast && f, small && s
		fast, small = f, s
	}
	fmt.Printf("targets: throughput at least %.1f of the floor: %s; resident at most %d MiB: %s\n",
		targetRatio, met(fast), targetMemory>>20, met(small))
	return nil
}

// run measures one line, prints it and tells which targets were met.
func (c contest) run(ctx context.Context, dir string, rounds int) (fast, small bool, err error) {
	if err := c.sign(ctx, dir); err != nil {
		return false, false, fmt.Errorf("signing: %w", err)
	}
	info, err := os.Stat(filepath.Join(dir, c.file))
	if err != nil {
		return false, false, err
	}
	var floors, ours []sample
	for range rounds + 1 { // the first pair warms the page cache and is dropped
		a, err := measure("floor", filepath.Join(dir, c.file), strconv.Itoa(int(c.hash)))
		if err != nil {
			return false, false, err
		}
		b, err := measure("verify", dir, c.jws())
		if err != nil {
			return false, false, err
		}
		floors, ours = append(floors, a), append(ours, b)
	}
	rate := func(s sample) float64 { return mib(info.Size()) / s.took.Seconds() }
	peak := func(s sample) float64 { return mib(s.peak) }
	f, fl, fh := spread(floors[1:], rate)
	o, ol, oh := spread(ours[1:], rate)
	fp, _, _ := spread(floors[1:], peak)
	_, _, op := spread(ours[1:], peak)
	fmt.Printf("%-16s %12.0f (%5.0f–%5.0f) %15.0f (%5.0f–%5.0f) %12.2f %7.1f MiB (%.1f)\n",
		string(c.alg)+" "+c.name, f, fl, fh, o, ol, oh, o/f, op, fp)
	return o/f >= targetRatio, op <= targetMemory>>20, nil
}

func (c contest) jws() string {
	return string(c.alg) + "." + strings.ReplaceAll(c.name, ":", "-") + ".jws"
}

// sign leaves a key and a JWS in dir.
func (c contest) sign(ctx context.Context, dir string) error {
	var key crypto.Signer
	var err error
	if c.alg == jose.EdDSA {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return err
	}
	s, err := jose.NewSigner(key, c.alg, "bench")
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, plainFile))
	if err != nil {
		return err
	}
	defer f.Close()
	compact, err := detached.Sign(ctx, s, nil, f, c.enc)
	if err != nil {
		return err
	}
	public, err := json.Marshal(s.Key())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), public, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, c.jws()), []byte(compact), 0o600)
}

// measure runs this program again in a role. What it prints is the time it took
// without its own start and end. Linux lets a child begin with its parent's peak, so
// that no figure of memory is below the few MiB of the parent.
func measure(role string, args ...string) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("running as %s: %w", role, err)
	}
	nanos, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return sample{}, fmt.Errorf("answer of %s: %w", role, err)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return sample{}, fmt.Errorf("no resource usage on %s", runtime.GOOS)
	}
	peak := int64(usage.Maxrss)
	if runtime.GOOS == "linux" {
		peak *= 1024 // getrusage(2): kilobytes there, bytes elsewhere
	}
	return sample{time.Duration(nanos), peak}, nil
}

func child(work func() error) error {
	began := time.Now()
	if err := work(); err != nil {
		return err
	}
	_, err := fmt.Println(time.Since(began).Nanoseconds())
	return err
}

// floor hashes a file and does nothing else.
func floor(file, hash string) error {
	id, err := strconv.Atoi(hash)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h, buffer := crypto.Hash(id).New(), make([]byte, bufferSize)
	for {
		n, err := f.Read(buffer)
		h.Write(buffer[:n])
		if err == io.EOF {
			_, err = fmt.Fprintf(io.Discard, "%x", h.Sum(nil))
			return err
		}
		if err != nil {
			return err
		}
	}
}

// verify is what a mirror does with one bundle.
func verify(ctx context.Context, dir, jws string) error {
	compact, err := os.ReadFile(filepath.Join(dir, jws))
	if err != nil {
		return err
	}
	public, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return err
	}
	key, err := jose.ParseKey(public)
	if err != nil {
		return err
	}
	rules := jose.Rules{Algs: []jose.Alg{jose.ES256, jose.EdDSA}, Critical: []string{"b64"}}
	v, err := detached.Open(string(compact), func(jose.Header) (jose.Key, error) { return key, nil }, rules)
	if err != nil {
		return err
	}
	defer v.Close()
	f, err := os.Open(filepath.Join(dir, plainFile))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = detached.VerifyReader(ctx, f, v)
	return err
}

// makePayload writes lines of JSON that do not repeat, and the same in base64url.
func makePayload(dir string, size int64) (err error) {
	var files [2]*os.File
	for i, name := range []string{plainFile, codedFile} {
		if files[i], err = os.Create(filepath.Join(dir, name)); err != nil {
			return err
		}
		defer files[i].Close()
	}
	coded := bufio.NewWriterSize(files[1], bufferSize)
	encoder := base64.NewEncoder(base64.RawURLEncoding, coded)
	plain := bufio.NewWriterSize(io.MultiWriter(files[0], encoder), bufferSize)
	source := mathrand.New(mathrand.NewPCG(1, 2)) // the same payload every time
	var line []byte
	for left := size; left > 0; left -= int64(len(line)) {
		line = fmt.Appendf(line[:0], `{"id":"ADV-%08d","severity":%d,"sha256":"%016x%016x%016x%016x"}`+"\n",
			source.IntN(1e8), source.IntN(10), source.Uint64(), source.Uint64(), source.Uint64(), source.Uint64())
		line = line[:min(int64(len(line)), left)]
		if _, err := plain.Write(line); err != nil {
			return err
		}
	}
	return errors.Join(plain.Flush(), encoder.Close(), coded.Flush())
}

func spread(samples []sample, get func(sample) float64) (median, low, high float64) {
	var all []float64
	for _, s := range samples {
		all = append(all, get(s))
	}
	slices.Sort(all)
	return all[len(all)/2], all[0], all[len(all)-1]
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}
