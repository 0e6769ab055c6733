package rotate

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/jose"
	"github.com/stella-ops/stella/internal/jose/jwks"
	"github.com/stella-ops/stella/internal/keyring"
)

// Point is a place to look at: an https URL, or file:///PATH for the copy
// that an air-gapped site uses.
type Point struct {
	Name   string
	URL    string
	Client *http.Client // nil: the Looker's

	unasked bool // named by the Authority only, at an address that it may not name
}

// Looker looks at vantage points.
type Looker struct {
	Client  *http.Client
	Extra   []Point       // beside those that the Authority names
	Timeout time.Duration // for one look; zero means 10 s
}

// Sight is what was seen at one vantage point.
type Sight struct {
	Name, URL string
	Set       jose.Set
	MaxAge    time.Duration // zero when it may not be cached or does not say
	Err       error
}

// Look fetches the set from every point at once.
func (l *Looker) Look(ctx context.Context, known []keyring.Vantage) []Sight {
	points := l.points(known)
	sights := make([]Sight, len(points))
	var wg sync.WaitGroup
	for i, p := range points {
		wg.Go(func() { sights[i] = l.look(ctx, p) })
	}
	wg.Wait()
	return sights
}

func (l *Looker) points(known []keyring.Vantage) []Point {
	named, own := map[string]bool{}, map[string]bool{}
	var points []Point
	for _, p := range l.Extra {
		named[p.Name], own[p.URL] = true, true
		points = append(points, p)
	}
	for _, v := range known {
		if !named[v.Name] {
			points = append(points, Point{Name: v.Name, URL: v.URL, unasked: !MayName(v) && !own[v.URL]})
		}
	}
	return points
}

// MayName reports whether the Authority's word is enough to look at v: what it
// answers must not make this host read its own files, nor ask plain HTTP
// anywhere but on loopback for a point of the Authority's configuration.
func MayName(v keyring.Vantage) bool {
	u, err := url.Parse(v.URL)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || v.Required && u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

func (l *Looker) look(ctx context.Context, p Point) Sight {
	s := Sight{Name: p.Name, URL: p.URL}
	if p.unasked {
		s.Err = fault.Errorf(fault.Trust, "it is ignored: %.200q comes from the Authority and is not https; name it in vantage_points to trust it", p.URL)
		return s
	}
	timeout := l.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if u, err := url.Parse(p.URL); err == nil && u.Scheme == "file" {
		s.Set, s.Err = readSet(u.Path)
		return s
	}
	client := p.Client
	if client == nil {
		client = l.Client
	}
	got, err := jwks.Fetch(ctx, client, p.URL)
	if err != nil {
		s.Err = err
		return s
	}
	s.Set = got.Set
	if !got.NoStore && got.MaxAge > 0 {
		s.MaxAge = got.MaxAge
	}
	return s
}

func readSet(path string) (jose.Set, error) {
	info, err := os.Stat(path)
	if err != nil {
		return jose.Set{}, fault.As(fault.Transient, err)
	}
	if !info.Mode().IsRegular() || info.Size() > jose.MaxSetBytes {
		return jose.Set{}, fault.Errorf(fault.Trust, "%q is not a file of at most %d bytes", path, jose.MaxSetBytes)
	}
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return jose.Set{}, fault.As(fault.Transient, err)
	}
	set, err := jose.ParseSet(data)
	if err != nil {
		return jose.Set{}, fault.Errorf(fault.Trust, "%q: %w", path, err)
	}
	return set, nil
}

// observations turns sights into what is reported to the Authority. A point
// that could not be looked at is not reported: not having seen it lately
// blocks an activation by itself.
func observations(sights []Sight) []keyring.Observation {
	var out []keyring.Observation
	for _, s := range sights {
		if s.Err != nil {
			continue
		}
		o := keyring.Observation{Name: s.Name, URL: s.URL, KIDs: []string{}, MaxAge: keyring.Seconds(s.MaxAge)}
		for _, k := range s.Set.Keys {
			o.KIDs = append(o.KIDs, k.KeyID)
		}
		out = append(out, o)
	}
	return out
}
