package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/revocation"
)

// keySource is where the keys of one check come from.
type keySource struct {
	keys revocation.Keys
	name string
	at   time.Time // when an issuer's keys were seen; zero for a file
}

// keys finds the keys that a list may be signed with.
func (o *authRevokeVerifyOptions) keys(ctx context.Context, app *App) (*keySource, error) {
	switch {
	case o.key != "":
		data, err := readBounded(o.key, jose.MaxSetBytes)
		if err != nil {
			return nil, err
		}
		keys, err := keysOf(data)
		if err != nil {
			return nil, fault.Errorf(fault.Config, "keys in %s: %w", o.key, err)
		}
		return &keySource{keys: keys, name: o.key}, nil
	case o.url != "":
		return fetchKeys(ctx, app, o.url)
	}
	s, err := openAuth(app, tokenWant{})
	if err != nil {
		return nil, err
	}
	defer s.close()
	set, at, err := s.client.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return &keySource{keys: revocation.KeysIn(set), name: s.client.Issuer(), at: at}, nil
}

// fetchKeys gets a key set from a URL that the operator named.
func fetchKeys(ctx context.Context, app *App, url string) (*keySource, error) {
	c, err := app.Config()
	if err != nil {
		return nil, err
	}
	p := newProgress(app)
	defer p.close()
	f, err := openFetcher(app, p, c.Authority.CAFile)
	if err != nil {
		return nil, err
	}
	a, err := f.Get(ctx, url, http.Header{"Accept": {"application/jwk-set+json, application/json"}}, jose.MaxSetBytes)
	if err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, fault.Errorf(fault.NotFound, "%s answers %d instead of keys", url, a.Status)
	}
	set, err := jose.ParseSet(a.Body)
	if err != nil {
		return nil, fault.Errorf(fault.Trust, "%s does not answer with keys: %w", url, err)
	}
	return &keySource{keys: revocation.KeysIn(set), name: url, at: app.Now().UTC().Truncate(time.Second)}, nil
}

// keysOf reads a JWK set, or one key in PEM. PEM has no place for a kid, so
// such a key stands for whichever kid a signature names.
func keysOf(data []byte) (revocation.Keys, error) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		set, err := jose.ParseSet(trimmed)
		return revocation.KeysIn(set), err
	}
	pub, err := jose.ParsePublic(data)
	if err != nil {
		return nil, fmt.Errorf("neither a JWK set nor one PEM block with a key: %w", err)
	}
	if _, err := jose.NewKey(pub, "", jose.ES256); err != nil {
		return nil, err
	}
	return func(_ context.Context, kid string) (jose.Key, error) { return jose.NewKey(pub, kid, jose.ES256) }, nil
}
