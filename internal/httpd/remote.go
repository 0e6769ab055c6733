package httpd

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops bounds how many entries of X-Forwarded-For are looked at; no sane
// chain of proxies is longer.
const maxHops = 16

// RemoteAddr returns the address of the client that r comes from: the peer,
// or, if the peer is one of the trusted proxies, the rightmost address in
// X-Forwarded-For that is none. What stands further left is the client's own
// word and counts for nothing, and so do all other headers (RFC 7239 section
// 8.1).
//
// An IPv4 address mapped into IPv6 is that IPv4 address (RFC 4291 section
// 2.5.5). Anything but one plain address between commas (a port, a zone, an
// octal or short IPv4 form, more than 16 hops) makes the header worthless, and
// the peer is the answer. The result is the zero Addr only when the peer has
// no IP address, which is then in no prefix.
func RemoteAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := peerAddr(r.RemoteAddr)
	if !within(peer, trusted) {
		return peer
	}
	// Repeated lines are one list (RFC 9110 section 5.3). It is read from the
	// right, so that what a client puts before it costs nothing.
	lines := r.Header["X-Forwarded-For"]
	last, hops := peer, 0
	for _, line := range slices.Backward(lines) {
		for more := true; more; hops++ {
			var hop string
			if i := strings.LastIndexByte(line, ','); i >= 0 {
				line, hop = line[:i], line[i+1:]
			} else {
				hop, more = line, false
			}
			a, ok := plainAddr(strings.Trim(hop, " \t"))
			if !ok || hops == maxHops {
				return peer
			}
			if !within(a, trusted) {
				return a
			}
			last = a
		}
	}
	return last // all of them are proxies: the one that is furthest away
}

// peerAddr is the address in r.RemoteAddr, without port and zone.
func peerAddr(text string) netip.Addr {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// plainAddr parses an address that has one spelling for every reader.
func plainAddr(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text) // refuses short, octal and hexadecimal IPv4
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

func within(a netip.Addr, set []netip.Prefix) bool {
	return a.IsValid() && slices.ContainsFunc(set, func(p netip.Prefix) bool { return p.Contains(a) })
}
