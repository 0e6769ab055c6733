package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Lifetimes are the compressed times of a Fleet. No step of a rotation is
// skipped; everything is only shorter.
type Lifetimes struct {
	Cache, Skew, Lease, Poll, Token time.Duration
}

// Compressed makes a whole rotation take about twelve seconds.
func Compressed() Lifetimes {
	return Lifetimes{Cache: 2 * time.Second, Skew: time.Second, Lease: time.Second, Poll: 200 * time.Millisecond, Token: 5 * time.Second}
}

// Matures is how long after its publication a key may sign.
func (l Lifetimes) Matures() time.Duration { return l.Cache + l.Lease + l.Skew }

// Outlives is how long after its demotion a key may go.
func (l Lifetimes) Outlives() time.Duration { return l.Lease + l.Token + l.Skew }

// FleetOptions say what a Fleet is made of.
type FleetOptions struct {
	Dir       string // exists; everything is put below it
	Replicas  int    // zero means 2
	Lifetimes Lifetimes
	// Authority makes the command of one replica; its arguments are appended.
	Authority func() *exec.Cmd
	MongoURI  string
	Database  string
	// OwnKeys names replicas that work on a copy of the key directory, taken
	// when they start: they never see what changes later, as a replica whose
	// shared volume hangs.
	OwnKeys map[int]bool
	// MTLS gives each replica a listener for clients with certificates, which
	// are those of the fleet's CA. The issuer's proxy ends TLS, so it is reached
	// at the replica: MTLSURL.
	MTLS bool
	// RedisURL names a Redis that the replicas share; empty: none.
	RedisURL string
	// TokenLimit is how many requests of one caller the token endpoint takes in
	// a window of TokenWindow, in whole seconds. Zero: there are no rate limits.
	TokenLimit  int
	TokenWindow time.Duration
	// FreshConns makes the issuer's proxy open a connection for each request:
	// one that fails then was under way at a replica that died.
	FreshConns bool
}

// Fleet is an Authority of several replicas, each a process of its own, on
// one database and one key directory, behind a round-robin proxy that is the
// issuer, with a caching proxy beside it as a CDN edge is.
type Fleet struct {
	FleetOptions
	CA        *CA
	Issuer    string
	EdgeURL   string // the CDN edge: serves the key set only
	Edge      *Cache
	KeyDir    string
	Bootstrap string // file with the bootstrap key
	replicas  []*Process
	listen    []string
	mtls      []string // addresses; empty without MTLS
	front     *RoundRobin
}

// Client that the fleet knows from the start.
const (
	OperatorID     = "stella-operator"
	LoadID         = "feedser-cli"
	OperatorScopes = "authority:keys.read authority:keys.manage"
	LoadScope      = "feedser.jobs.trigger"
	LoadAudience   = "api://feedser"
	AuthorityAPI   = "api://authority"
	Tenant         = "tenant-default"
)

// NewFleet starts everything; ctx ends it.
func NewFleet(ctx context.Context, o FleetOptions) (*Fleet, error) {
	if o.Replicas == 0 {
		o.Replicas = 2
	}
	f := &Fleet{FleetOptions: o, KeyDir: filepath.Join(o.Dir, "keys"), Bootstrap: filepath.Join(o.Dir, "bootstrap")}
	if err := os.Mkdir(f.KeyDir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(f.Bootstrap, []byte(rand.Text()+rand.Text()+"\n"), 0o600); err != nil {
		return nil, err
	}
	var err error
	if f.CA, err = NewCA(o.Dir); err != nil {
		return nil, err
	}
	f.front = NewRoundRobin(f.CA.Client())
	f.front.Fresh = o.FreshConns
	if f.Issuer, err = Serve(ctx, f.CA, "issuer", f.front); err != nil {
		return nil, err
	}
	f.Edge = NewCache(f.Issuer, f.CA.Client())
	if f.EdgeURL, err = Serve(ctx, f.CA, "edge", f.Edge); err != nil {
		return nil, err
	}
	for range o.Replicas { // known before the first one starts, for the list of vantage points
		addr, err := FreeAddr()
		if err != nil {
			return nil, err
		}
		f.listen = append(f.listen, addr)
		if !o.MTLS {
			continue
		}
		if addr, err = FreeAddr(); err != nil {
			return nil, err
		}
		f.mtls = append(f.mtls, addr)
	}
	context.AfterFunc(ctx, f.Close)
	f.replicas = make([]*Process, o.Replicas)
	for i := range f.replicas {
		if err := f.StartReplica(ctx, i); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// ReplicaName names replica i.
func ReplicaName(i int) string { return fmt.Sprintf("replica-%c", 'a'+i) }

// StartReplica starts (again) replica i and puts it behind the issuer.
func (f *Fleet) StartReplica(ctx context.Context, i int) error {
	name := ReplicaName(i)
	path := filepath.Join(f.Dir, name+".yaml")
	conf, err := f.config(i)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return err
	}
	cmd := f.Authority()
	cmd.Args = append(cmd.Args, "--config", path)
	p, err := Start(ctx, f.Dir, name, cmd)
	if err != nil {
		return err
	}
	f.replicas[i] = p
	return f.balance()
}

// Replica returns the process of replica i.
func (f *Fleet) Replica(i int) *Process { return f.replicas[i] }

// MTLSURL is where replica i listens for clients with certificates.
func (f *Fleet) MTLSURL(i int) string { return "https://" + f.mtls[i] }

// Losses are the requests that the issuer's proxy had given to a replica that
// never answered them.
func (f *Fleet) Losses() []Loss { return f.front.Losses() }

// Behind names the replicas that the issuer's proxy spreads requests over.
func (f *Fleet) Behind(replicas ...int) error {
	var urls []string
	for _, i := range replicas {
		urls = append(urls, f.replicas[i].URL())
	}
	return f.front.Set(urls...)
}

func (f *Fleet) balance() error {
	var up []int
	for i, p := range f.replicas {
		if p != nil {
			up = append(up, i)
		}
	}
	return f.Behind(up...)
}

// Close stops all replicas.
func (f *Fleet) Close() {
	for _, p := range f.replicas {
		if p != nil {
			_ = p.Stop()
		}
	}
}

func (f *Fleet) config(i int) (string, error) {
	name := ReplicaName(i)
	cert, key, err := f.CA.Issue(name)
	if err != nil {
		return "", err
	}
	keyDir := f.KeyDir
	if f.OwnKeys[i] {
		keyDir = f.KeyDir + "-" + name
		if err := os.CopyFS(keyDir, os.DirFS(f.KeyDir)); err != nil {
			return "", err
		}
		if err := closeDir(keyDir); err != nil {
			return "", err
		}
	}
	l := f.Lifetimes
	var b strings.Builder
	fmt.Fprintf(&b, `schemaVersion: 1
issuer: %s
replica: %s
listen: %s
tls: {certificate: %s, key: %s}
admin: {listen: 127.0.0.1:0}
accessTokenLifetime: %s
storage: {connectionString: %q, databaseName: %s, commandTimeout: "00:00:05"}
signing:
  keyDirectory: %s
  createIfMissing: true
  jwksCacheLifetime: %s
  clockSkew: %s
  signLease: %s
  pollInterval: %s
  vantagePoints:
    - {name: edge, url: %s/jwks}
`, f.Issuer, name, f.listen[i], cert, key, span(l.Token), f.MongoURI, f.Database, keyDir,
		span(l.Cache), span(l.Skew), span(l.Lease), span(l.Poll), f.EdgeURL)
	for j, addr := range f.listen {
		fmt.Fprintf(&b, "    - {name: %s, url: https://%s/jwks}\n", ReplicaName(j), addr)
	}
	fmt.Fprintf(&b, "bootstrap: {apiKey: \"file:%s\"}\ntenants: [%s]\n", f.Bootstrap, Tenant)
	f.options(&b, i)
	return b.String(), nil
}

// options writes the part of a configuration that not every fleet has.
func (f *Fleet) options(b *strings.Builder, i int) {
	token := "enabled: false"
	if f.TokenLimit > 0 {
		token = fmt.Sprintf("permitLimit: %d, window: %s", f.TokenLimit, span(f.TokenWindow))
	}
	fmt.Fprintf(b, "security: {rateLimiting: {token: {%s}, authorize: {enabled: false}}}\n", token)
	if f.RedisURL != "" {
		fmt.Fprintf(b, "redis: {url: %q, timeout: 5s}\n", f.RedisURL)
	}
	if f.MTLS {
		fmt.Fprintf(b, "mtls: {listen: %s, tenants: [{tenant: %s, roots: %q}]}\n", f.mtls[i], Tenant, f.CA.CertFile)
	}
}

// closeDir takes a directory and its files away from group and others.
func closeDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Chmod(filepath.Join(dir, e.Name()), 0o600); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o700)
}

// span writes a duration as the platform does, quoted for YAML.
func span(d time.Duration) string {
	s := fmt.Sprintf("%02d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	if ms := d.Milliseconds() % 1000; ms != 0 {
		s += fmt.Sprintf(".%03d", ms)
	}
	return `"` + s + `"`
}
