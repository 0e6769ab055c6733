package authority

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// settleURLs makes the issuer and the base of the mTLS listener final: port 0
// stands for the port that was taken.
func (s *Server) settleURLs() error {
	u, err := url.Parse(s.issuer)
	if err != nil {
		return fmt.Errorf("internal error: issuer %q: %w", s.issuer, err)
	}
	if u.Port() == "0" && s.listened {
		mine, err := url.Parse(s.http.URL())
		if err != nil {
			return fmt.Errorf("internal error: %w", err)
		}
		s.issuer = u.Scheme + "://" + withPort(u, mine.Port()) + u.Path
	}
	if m := s.cfg.MTLS; m.Listen != "" {
		s.mtlsURL = strings.TrimSuffix(m.URL, "/")
		if s.mtlsURL == "" {
			_, port, _ := net.SplitHostPort(m.Listen)
			if s.listened {
				mine, err := url.Parse(s.http.URLOf(listenerMTLS))
				if err != nil {
					return fmt.Errorf("internal error: %w", err)
				}
				port = mine.Port()
			}
			s.mtlsURL = "https://" + withPort(u, port)
		}
	}
	set := s.set.Load()
	s.adopt(set.cfg, set.secrets)
	if s.redis != nil && s.issuer != s.cfg.Issuer {
		_ = s.redis.Close() // nothing has used it yet
		return s.openRedis(set.secrets)
	}
	return nil
}

func withPort(u *url.URL, port string) string { return net.JoinHostPort(u.Hostname(), port) }
