package jwks

import (
	"fmt"
	"mime"
	"net/http"
)

// warnings lists what is unwise about an answer that can be used.
func warnings(f *Fetched, h http.Header) []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	switch media, _, err := mime.ParseMediaType(h.Get("Content-Type")); {
	case h.Get("Content-Type") == "":
		warn("no Content-Type; expected application/jwk-set+json or application/json")
	case err != nil || media != "application/jwk-set+json" && media != "application/json":
		warn("Content-Type is %q; expected application/jwk-set+json or application/json", h.Get("Content-Type"))
	}
	cc := parseCacheControl(h.Values("Cache-Control"))
	switch {
	case !cc.present:
		warn("no Cache-Control; verifiers will guess how long to keep the set")
	case cc.bad:
		warn("Cache-Control has no single readable max-age: %q", h.Values("Cache-Control"))
	case cc.noStore:
		warn("Cache-Control forbids keeping the set; every verification may cost a fetch")
	case cc.maxAge < 0:
		warn("Cache-Control has no max-age; verifiers will guess how long to keep the set")
	case cc.maxAge == 0:
		warn("Cache-Control max-age is 0; every verification may cost a fetch")
	}
	if a, ok := age(h); !ok {
		warn("Age is not a number of seconds: %q", h.Get("Age"))
	} else if cc.maxAge > 0 && a >= cc.maxAge {
		warn("answer was already stale: Age %s, max-age %s", a, cc.maxAge)
	}
	if h.Get("ETag") == "" {
		warn("no ETag; an unchanged set is sent in full each time")
	}
	if h.Get("Date") == "" {
		warn("no Date; the age of the answer cannot be checked")
	}
	if len(f.Set.Keys) == 0 {
		warn("set has no usable key; nothing can be verified with it")
	}
	out = append(out, f.Set.Skipped...)
	for i, k := range f.Set.Keys {
		name := fmt.Sprintf("key %d (kid %q)", i, k.KeyID)
		if k.KeyID == "" {
			name = fmt.Sprintf("key %d", i)
			warn("%s has no kid; no token can name it", name)
		}
		if k.Use == "" {
			warn("%s has no use", name)
		}
		if k.Alg == "" {
			warn("%s has no alg", name)
		}
	}
	return out
}
