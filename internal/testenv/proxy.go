package testenv

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Serve serves h over TLS on a free loopback port until ctx ends and returns
// its URL.
func Serve(ctx context.Context, ca *CA, name string, h http.Handler) (string, error) {
	conf, err := ca.TLS(name)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "https://" + l.Addr().String(), ServeOn(ctx, l, conf, h)
}

// ServeOn serves h over TLS on l until ctx ends. It returns at once.
func ServeOn(ctx context.Context, l net.Listener, conf *tls.Config, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		TLSConfig:         conf,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	context.AfterFunc(ctx, func() { srv.Close() })
	return nil
}

// Cache is a shared cache in front of an origin, as a CDN is: it keeps answers
// to GET for their max-age (RFC 9111) and sends Age with them.
type Cache struct {
	origin string
	client *http.Client
	mu     sync.Mutex
	kept   map[string]*answer
	Hits   atomic.Int64
	Misses atomic.Int64
}

type answer struct {
	status int
	header http.Header
	body   []byte
	at     time.Time
	maxAge time.Duration
}

// NewCache makes a cache in front of origin, a base URL.
func NewCache(origin string, client *http.Client) *Cache {
	return &Cache{origin: strings.TrimSuffix(origin, "/"), client: client, kept: map[string]*answer{}}
}

// ServeHTTP implements http.Handler. Only GET goes through.
func (c *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		http.Error(w, "a cache answers GET only", http.StatusMethodNotAllowed)
		return
	}
	a, err := c.get(r.Context(), r.URL.Path)
	if err != nil {
		http.Error(w, "origin out of reach", http.StatusBadGateway)
		return
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Age", strconv.Itoa(int(time.Since(a.at).Seconds())))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

func (c *Cache) get(ctx context.Context, path string) (*answer, error) {
	c.mu.Lock() // one fetch at a time is enough for a lab
	defer c.mu.Unlock()
	if a := c.kept[path]; a != nil && time.Since(a.at) < a.maxAge {
		c.Hits.Add(1)
		return a, nil
	}
	c.Misses.Add(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.origin+path, nil)
	if err != nil {
		return nil, err
	}
	at := time.Now() // before the request, so that an answer is never kept too long
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	for _, name := range []string{"Content-Type", "Cache-Control", "Etag", "Date"} {
		if v := resp.Header.Values(name); v != nil {
			header[name] = v
		}
	}
	a := &answer{status: resp.StatusCode, header: header, body: body, at: at}
	if resp.StatusCode == http.StatusOK {
		a.maxAge = maxAge(resp.Header.Get("Cache-Control"))
		c.kept[path] = a
	}
	return a, nil
}

func maxAge(cacheControl string) time.Duration {
	var age time.Duration
	for d := range strings.SplitSeq(cacheControl, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache", "private":
			return 0
		case "max-age":
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				return 0
			}
			age = time.Duration(n) * time.Second
		}
	}
	return age
}
