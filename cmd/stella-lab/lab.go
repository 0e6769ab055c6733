package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/secret"
	"github.com/stella-ops/stella/internal/testenv"
)

// lab is the running system and an operator's place in it.
type lab struct {
	*testenv.Fleet
	home   string // the operator's: configuration, token cache
	config string // stella.yaml
	load   *oauth.Client
	feeds  *feeds // nil in a lab without
}

// newLab starts everything below dir; ctx ends it.
func newLab(ctx context.Context, dir string, l testenv.Lifetimes) (*lab, error) {
	lb, err := newLabWith(ctx, testenv.FleetOptions{Dir: dir, Lifetimes: l, MTLS: true})
	if err != nil {
		return nil, err
	}
	if err := lb.openFeeds(ctx); err != nil {
		lb.Close()
		return nil, err
	}
	return lb, nil
}

// openFeeds starts the bucket with the first release of each feed, and adds a
// mirror of them to the operator's configuration.
func (l *lab) openFeeds(ctx context.Context) (err error) {
	if l.feeds, err = newFeeds(ctx, l.Dir, l.CA, nil); err != nil {
		return err
	}
	return l.addMirror(ctx)
}

func (l *lab) addMirror(ctx context.Context) error {
	text, err := l.feeds.mirror(filepath.Join(l.home, "mirror"))
	if err != nil {
		return err
	}
	conf, err := os.OpenFile(l.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(text + l.feeds.reach())
	if err := errors.Join(err, conf.Close()); err != nil {
		return err
	}
	for _, feed := range feedNames() {
		dir, _, err := l.feeds.export(ctx, feed)
		if err != nil {
			return err
		}
		if _, err := l.quiet(ctx, l.feeds.publishing(feed, dir)...); err != nil {
			return err
		}
	}
	return nil
}

// Close ends everything that the lab has started but the database.
func (l *lab) Close() {
	if l.feeds != nil {
		_ = l.feeds.close()
	}
	l.Fleet.Close()
}

func newLabWith(ctx context.Context, o testenv.FleetOptions) (*lab, error) {
	mongo, err := testenv.StartMongo("127.0.0.1:0", "")
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, mongo.Stop)
	o.MongoURI, o.Database = mongo.URI(), "stella_lab"
	o.Authority = func() *exec.Cmd { return as("stella-authority") }
	fleet, err := testenv.NewFleet(ctx, o)
	if err != nil {
		return nil, err
	}
	lb := &lab{Fleet: fleet, home: filepath.Join(o.Dir, "operator")}
	if err := os.Mkdir(lb.home, 0o700); err != nil {
		return nil, err
	}
	return lb, lb.settle(ctx)
}

// settle registers the clients and writes the operator's configuration.
func (l *lab) settle(ctx context.Context) error {
	operator, err := l.Register(ctx, testenv.OperatorID, testenv.OperatorScopes, testenv.AuthorityAPI)
	if err != nil {
		return err
	}
	load, err := l.Register(ctx, testenv.LoadID, testenv.LoadScope, testenv.LoadAudience)
	if err != nil {
		return err
	}
	l.config = filepath.Join(l.home, "stella.yaml")
	conf := fmt.Sprintf(`authority:
  url: %s
  ca_file: %s
auth:
  client_id: %s
  client_secret: file:%s
  scopes: [%s]
  audience: %s
  token_cache: %s
  bootstrap_key: file:%s
tenant: %s
vantage_points:
%s`, l.Issuer, l.CA.CertFile, testenv.OperatorID, operator, strings.Join(strings.Fields(testenv.OperatorScopes), ", "),
		testenv.AuthorityAPI, filepath.Join(l.home, "tokens"), l.Bootstrap, testenv.Tenant, l.points())
	if err := os.WriteFile(l.config, []byte(conf), 0o600); err != nil {
		return err
	}
	l.load, err = oauth.New(oauth.Config{
		Issuer: l.Issuer, ClientID: testenv.LoadID, HTTP: l.CA.Client(),
		Credential: oauth.SecretBasic(secret.Ref("file:" + load).Load),
		Scopes:     []string{testenv.LoadScope}, Audience: testenv.LoadAudience, Tenant: testenv.Tenant,
		RetryDelays: []time.Duration{},
	})
	return err
}

// points lists the places that serve the key set, for the configuration.
func (l *lab) points() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - {name: edge, url: %s/jwks, ca_file: %s}\n", l.EdgeURL, l.CA.CertFile)
	for i := range l.Replicas {
		fmt.Fprintf(&b, "  - {name: %s, url: %s/jwks, ca_file: %s}\n", testenv.ReplicaName(i), l.Replica(i).URL(), l.CA.CertFile)
	}
	return b.String()
}

// mint gets one fresh token for the load client.
func (l *lab) mint(ctx context.Context) (string, time.Time, error) {
	t, err := l.load.Mint(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	return string(t.AccessToken.Reveal()), t.ExpiresAt, nil
}

// verifiers are the relying services of the lab, the first two behind the edge.
func (l *lab) verifiers(ctx context.Context) ([]testenv.Verifier, error) {
	third, err := testenv.NewGoOIDC(ctx, l.Issuer, testenv.LoadAudience, l.CA.Client())
	if err != nil {
		return nil, err
	}
	return []testenv.Verifier{
		testenv.NewOurs("ours, behind the caching edge", l.Issuer, testenv.LoadAudience, l.EdgeURL+"/jwks", l.CA.Client(), 100*time.Millisecond),
		testenv.NewMaxAgeOnly("reloads only at max-age", l.Issuer, testenv.LoadAudience, l.Issuer+"/jwks", l.CA.Client()),
		third,
	}, nil
}

// environment is what `stella` needs to work against the lab.
func (l *lab) environment() []string {
	return []string{"STELLA_CONFIG=" + l.config}
}
