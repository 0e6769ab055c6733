package fakevault

import "net/http"

func (s *Server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// Token is the one that is accepted.
func (s *Server) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// SetToken replaces the token that is accepted.
func (s *Server) SetToken(token string) { s.set(func() { s.token = token }) }

// SetNamespace moves the engine into a namespace; "" is the root.
func (s *Server) SetNamespace(name string) { s.set(func() { s.namespace = name }) }

// Deny takes from the token's policy all paths under a prefix, such as
// "transit/sign/"; "" gives them back.
func (s *Server) Deny(prefix string) { s.set(func() { s.denied = prefix }) }

// Seal seals and unseals: everything answers 503.
func (s *Server) Seal(sealed bool) {
	if sealed {
		s.Fail(http.StatusServiceUnavailable)
		return
	}
	s.Fail(0)
}

// Fail answers everything with a status; 0 ends that.
func (s *Server) Fail(status int) { s.set(func() { s.status = status }) }

// Hang leaves requests without an answer until their clients go.
func (s *Server) Hang(hang bool) { s.set(func() { s.hang = hang }) }

// Forge signs with a key made for the occasion instead of the one asked for.
func (s *Server) Forge(forge bool) { s.set(func() { s.forge = forge }) }

// Take hands all requests to h instead; nil ends that.
func (s *Server) Take(h http.HandlerFunc) { s.set(func() { s.take = h }) }

// Flag marks a key as having been "imported", "restored" or "soft_deleted",
// for which the real requests need what is not played here: wrapping keys and
// backups. It reports whether there is such a key.
func (s *Server) Flag(name, flag string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		return false
	}
	switch flag {
	case "imported":
		k.imported = true
	case "restored":
		k.restored = true
	case "soft_deleted":
		k.softDeleted = true
	default:
		return false
	}
	return true
}
