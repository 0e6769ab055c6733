package jwkscheck

import (
	"fmt"
	"mime"
	"net"
	"net/url"
	"strings"
	"time"
)

// httpChecks are about how a set is served. All but one need an answer to
// look at.
func httpChecks() []check {
	served := input.overHTTP
	return []check{
		{"insecure-url", Error, "serve keys over https: who can change them on the way can sign", insecureURL, served},
		{"content-type", Error, "serve application/jwk-set+json (RFC 7517 section 8.5.2) or application/json", contentType, served},
		{"cache-missing", Warning, "send Cache-Control: max-age=…; without it each verifier guesses, and no rotation can be timed", cacheMissing, served},
		{"cache-too-long", Error, "shorten max-age: a verifier does not see a new or a withdrawn key before it ends", cacheTooLong, served},
		{"cache-immutable", Error, "drop immutable: it promises that the body never changes (RFC 8246 section 2)", cacheImmutable, served},
		{"cache-no-store", Warning, "allow caching for some minutes; no-store sends every verifier to the Authority for every token", cacheNoStore, served},
		{"stale", Warning, "a cache on the way serves the set beyond its max-age: purge or fix it", staleAnswer, served},
		{"etag-blind", Error, "compare If-None-Match with the tag of the current set; now no client ever sees a change", tagBlind, served},
		{"etag-stale", Error, "change the ETag with the content; now conditional requests keep old keys alive", tagStale, func(in input) bool {
			return in.hasPast() && in.doc.HTTP != nil && in.opt.Earlier.HTTP != nil
		}},
	}
}

func insecureURL(in input, report func(where, what string)) {
	u, err := url.Parse(in.doc.Source)
	if err != nil || u.Scheme == "https" {
		return
	}
	ip := net.ParseIP(u.Hostname())
	if u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return
	}
	report(in.doc.Source, "the set is served over plain http")
}

func contentType(in input, report func(where, what string)) {
	mt, _, err := mime.ParseMediaType(in.doc.HTTP.ContentType)
	if err == nil && (mt == "application/jwk-set+json" || mt == "application/json") {
		return
	}
	report("header Content-Type", fmt.Sprintf("%.80q", in.doc.HTTP.ContentType))
}

func cacheMissing(in input, report func(where, what string)) {
	if h := in.doc.HTTP; h.MaxAge < 0 && !h.NoStore && !noCache(h) {
		report("header Cache-Control", fmt.Sprintf("no max-age in %.80q", h.CacheControl))
	}
}

// noCache makes caches revalidate each time, which is slow but not vague.
func noCache(h *HTTP) bool { return strings.Contains(strings.ToLower(h.CacheControl), "no-cache") }

func cacheTooLong(in input, report func(where, what string)) {
	if h := in.doc.HTTP; h.MaxAge > in.opt.MaxCache {
		report("header Cache-Control", fmt.Sprintf("max-age is %s, more than %s", h.MaxAge, in.opt.MaxCache.Round(time.Second)))
	}
}

func cacheImmutable(in input, report func(where, what string)) {
	if in.doc.HTTP.Immutable {
		report("header Cache-Control", "immutable on a set that changes")
	}
}

func cacheNoStore(in input, report func(where, what string)) {
	if in.doc.HTTP.NoStore {
		report("header Cache-Control", "no-store")
	}
}

func staleAnswer(in input, report func(where, what string)) {
	if h := in.doc.HTTP; h.MaxAge >= 0 && h.Age > h.MaxAge {
		report("header Age", fmt.Sprintf("the answer is %s old, its max-age %s", h.Age, h.MaxAge))
	}
}

func tagBlind(in input, report func(where, what string)) {
	if in.doc.HTTP.TagBlind {
		report("header ETag", "304 in answer to a tag that was never given out")
	}
}

func tagStale(in input, report func(where, what string)) {
	now, then := in.doc.HTTP.ETag, in.opt.Earlier.HTTP.ETag
	if now != "" && now == then && !in.sameBody() {
		report("header ETag", fmt.Sprintf("the content changed since %s, the tag %.80q did not", in.opt.Earlier.Source, now))
	}
}
