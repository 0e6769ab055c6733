package authority

import (
	"net/http"

	"github.com/stella-ops/stella/internal/authority/audit"
	"github.com/stella-ops/stella/internal/authority/wire"
)

// legacy are the paths whose sunset was on 1 May 2026, with their successors.
var legacy = map[string]string{
	"/oauth/token":      pathToken,
	"/oauth/revoke":     "/revoke",
	"/oauth/introspect": pathIntrospect,
}

// Dates of the platform's notice, as HTTP-dates (RFC 9110 section 5.6.7).
const (
	legacyDeprecated = "Sat, 01 Nov 2025 00:00:00 GMT"
	legacySunset     = "Fri, 01 May 2026 00:00:00 GMT"
)

// legacyRoutes answers 410 Gone, and where to go instead (RFC 8594, RFC 8288).
func (s *Server) legacyRoutes(mux *http.ServeMux) {
	for path, successor := range legacy {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			ev := audit.Of(r.Context())
			ev.Set(audit.TypeLegacyEndpoint)
			ev.Outcome(audit.Failure, "gone")
			ev.Prop("path", path, audit.None)
			h := w.Header()
			h.Set("Deprecation", legacyDeprecated)
			h.Set("Sunset", legacySunset)
			h.Add("Link", "<"+s.issuer+successor+`>; rel="successor-version"`)
			h.Add("Link", "<"+s.issuer+successor+`>; rel="sunset"`)
			wire.WriteError(w, &wire.Refusal{
				Code: wire.InvalidRequest, Status: http.StatusGone, Description: "this path has ended; use " + s.issuer + successor,
			})
		})
	}
}
