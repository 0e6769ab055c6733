package httpd

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func proxies() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("127.0.0.1/32")}
}

func TestRemoteAddr(t *testing.T) {
	const proxy, direct = "10.0.0.1:5000", "203.0.113.9:5000"
	for _, c := range []struct {
		name, peer string
		lines      []string // of X-Forwarded-For
		want       string
	}{
		{"no header, no proxy", direct, nil, "203.0.113.9"},
		{"no header, proxy", proxy, nil, "10.0.0.1"},
		{"a proxy's word", proxy, []string{"198.51.100.7"}, "198.51.100.7"},
		{"the client's own word", direct, []string{"127.0.0.1"}, "203.0.113.9"},
		{"put on the left by the client", proxy, []string{"127.0.0.1, 198.51.100.7"}, "198.51.100.7"},
		{"put on the left, allow-listed proxy address", proxy, []string{"10.9.9.9, 198.51.100.7"}, "198.51.100.7"},
		{"two proxies", proxy, []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		{"put on the left, an address of nobody's", proxy, []string{"8.8.8.8, 198.51.100.7"}, "198.51.100.7"},
		{"two lines", proxy, []string{"8.8.8.8", "198.51.100.7"}, "198.51.100.7"},
		{"two lines, the first allow-listed", proxy, []string{"127.0.0.1", "198.51.100.7"}, "198.51.100.7"},
		{"two lines and lists", proxy, []string{"8.8.8.8,198.51.100.7", "10.0.0.2 ,\t10.0.0.3"}, "198.51.100.7"},
		{"nothing but proxies", proxy, []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"mapped peer", "[::ffff:10.0.0.1]:5000", []string{"198.51.100.7"}, "198.51.100.7"},
		{"mapped client", proxy, []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"mapped loopback is loopback", "[::ffff:127.0.0.1]:5000", []string{"198.51.100.7"}, "198.51.100.7"},
		{"IPv6 loopback is not in the list", "[::1]:5000", []string{"198.51.100.7"}, "::1"},
		{"IPv6 through IPv6", "[fd00::1]:5000", []string{"2001:db8::7"}, "2001:db8::7"},
		{"peer with a zone", "[fd00::1%eth0]:5000", []string{"2001:db8::7"}, "2001:db8::7"},
		{"zone", proxy, []string{"fe80::1%eth0"}, "10.0.0.1"},
		{"short IPv4", proxy, []string{"127.1"}, "10.0.0.1"},
		{"hexadecimal IPv4", proxy, []string{"0x7f.0.0.1"}, "10.0.0.1"},
		{"short hexadecimal IPv4", proxy, []string{"0x7f.1"}, "10.0.0.1"},
		{"octal IPv4", proxy, []string{"0177.0.0.1"}, "10.0.0.1"},
		{"IPv4 as one number", proxy, []string{"2130706433"}, "10.0.0.1"},
		{"IPv4 with a port", proxy, []string{"198.51.100.7:80"}, "10.0.0.1"},
		{"IPv6 with a port", proxy, []string{"[2001:db8::7]:80"}, "10.0.0.1"},
		{"IPv6 in brackets", proxy, []string{"[2001:db8::7]"}, "10.0.0.1"},
		{"a name", proxy, []string{"unknown"}, "10.0.0.1"},
		{"empty", proxy, []string{""}, "10.0.0.1"},
		{"empty element", proxy, []string{"198.51.100.7,"}, "10.0.0.1"},
		{"odd form behind a proxy's address", proxy, []string{"127.1, 10.0.0.2"}, "10.0.0.1"},
		{"odd form left of the answer", proxy, []string{"127.1, 198.51.100.7"}, "198.51.100.7"},
		{"16 hops", proxy, []string{"198.51.100.7" + strings.Repeat(",10.0.0.2", 15)}, "198.51.100.7"},
		{"17 hops", proxy, []string{"198.51.100.7" + strings.Repeat(",10.0.0.2", 16)}, "10.0.0.1"},
		{"no port", "10.0.0.1", []string{"198.51.100.7"}, "198.51.100.7"},
		{"no address", "@", []string{"198.51.100.7"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		for _, line := range c.lines {
			r.Header.Add("X-Forwarded-For", line)
		}
		if got := RemoteAddr(r, proxies()).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestRemoteAddrOtherHeaders: no other header counts, even from a proxy.
func TestRemoteAddrOtherHeaders(t *testing.T) {
	r := &http.Request{RemoteAddr: "10.0.0.1:5000", Header: http.Header{}}
	for _, name := range []string{"Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Original-Forwarded-For"} {
		r.Header.Set(name, "127.0.0.1")
	}
	r.Header.Set("Forwarded", "for=127.0.0.1")
	if got := RemoteAddr(r, proxies()).String(); got != "10.0.0.1" {
		t.Error(got)
	}
	r.Header.Set("X-Forwarded-For", "198.51.100.7")
	if got := RemoteAddr(r, proxies()).String(); got != "198.51.100.7" {
		t.Error(got)
	}
}

// FuzzRemoteAddr: without a trusted peer the header changes nothing; with one
// the answer is the peer or an address that stands in the header, plain and
// with nothing but proxies to its right.
func FuzzRemoteAddr(f *testing.F) {
	for _, seed := range []string{"198.51.100.7", "127.1, 10.0.0.2", "::ffff:10.0.0.1,fd00::1", "fe80::1%1", ",,"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		r := &http.Request{RemoteAddr: "203.0.113.9:1", Header: http.Header{"X-Forwarded-For": {a, b}}}
		if got := RemoteAddr(r, proxies()); got.String() != "203.0.113.9" {
			t.Fatalf("a client named itself %s", got)
		}
		r.RemoteAddr = "10.0.0.1:1"
		got := RemoteAddr(r, proxies())
		if got.String() == "10.0.0.1" {
			return
		}
		if !got.IsValid() || got.Is4In6() || got.Zone() != "" {
			t.Fatalf("%q is not plain", got)
		}
		hops := strings.Split(a+","+b, ",")
		for i := len(hops) - 1; i >= 0; i-- {
			hop, err := netip.ParseAddr(strings.Trim(hops[i], " \t"))
			if err != nil {
				t.Fatalf("%q was passed over for %s", hops[i], got)
			}
			if hop.Unmap() == got {
				return
			}
			if !within(hop.Unmap(), proxies()) {
				t.Fatalf("%s was passed over for %s", hop, got)
			}
		}
		t.Fatalf("%s is not in the header", got)
	})
}
