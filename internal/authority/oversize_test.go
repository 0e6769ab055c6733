package authority_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/keyring"
)

const megabyte = 1 << 20

// maxCost is how many bytes more than a small request one of a megabyte may
// cost, client and server together; buffers that grow until they hold it all
// cost more than twice its size.
const maxCost = megabyte * 3 / 2

// rawConn is a TLS connection that a test writes to byte by byte.
func (r *replica) rawConn(proto string) *tls.Conn {
	r.t.Helper()
	u, err := url.Parse(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	roots := r.http.Transport.(*http.Transport).TLSClientConfig.RootCAs
	d := net.Dialer{Timeout: 20 * time.Second}
	c, err := tls.DialWithDialer(&d, "tcp", u.Host, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{proto}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != proto {
		r.t.Fatalf("protocol %q, want %q", got, proto)
	}
	return c
}

// raw sends a request as it is and returns the status of the answer. The
// server may stop reading at any point, so that errors of writing are its right.
func (r *replica) raw(request []byte) int {
	r.t.Helper()
	c := r.rawConn("http/1.1")
	defer c.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = c.Write(request)
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		r.t.Errorf("no answer: %v", err)
		return 0
	}
	resp.Body.Close()
	c.Close()
	<-written
	return resp.StatusCode
}

// cost is what a request allocates in client and server together.
func (r *replica) cost(request []byte) (status int, bytes uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	status = r.raw(request)
	runtime.ReadMemStats(&after)
	return status, after.TotalAlloc - before.TotalAlloc
}

// oversized is a request with one part of any size.
type oversized struct {
	build        func(size int) string
	small, large []int // statuses with a part of 100 bytes and of a megabyte
}

func head(method, path string, lines ...string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func post(path, kind, body string) string {
	return head("POST", path, "Content-Type: "+kind, fmt.Sprintf("Content-Length: %d", len(body))) + body
}

func chunked(path, kind, body string) string {
	return head("POST", path, "Content-Type: "+kind, "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
}

func oversizedRequests() map[string]oversized {
	const form = "application/x-www-form-urlencoded"
	refused := []int{400, 401}
	tooLarge := []int{400, 413}
	header := []int{431}
	page := []int{400, 403}
	fill := func(n int) string { return strings.Repeat("A", n) }
	document := func(path, member string) func(int) string {
		return func(n int) string {
			body := `{"` + member + `":"` + fill(n) + `"}`
			return head("POST", path, "Content-Type: application/json", "X-Stellaops-Bootstrap-Key: "+bootstrapKey,
				fmt.Sprintf("Content-Length: %d", len(body))) + body
		}
	}
	credentials := "grant_type=client_credentials&client_assertion_type=" + url.QueryEscape(assertionType) + "&client_assertion="
	return map[string]oversized{
		"bearer token": {func(n int) string {
			return head("GET", keyring.PathKeyring, "Authorization: Bearer "+fill(n))
		}, refused, header},
		"bearer token of dots": {func(n int) string {
			return head("GET", keyring.PathKeyring, "Authorization: Bearer "+strings.Repeat(".", n))
		}, refused, header},
		"DPoP token": {func(n int) string {
			return head("GET", keyring.PathKeyring, "Authorization: DPoP "+fill(n), "DPoP: a.b.c")
		}, refused, header},
		"DPoP proof": {func(n int) string {
			return head("GET", keyring.PathKeyring, "Authorization: DPoP a.b.c", "DPoP: "+fill(n))
		}, refused, header},
		"basic credentials": {func(n int) string {
			return head("POST", "/token", "Content-Type: "+form, "Content-Length: 0", "Authorization: Basic "+fill(n))
		}, refused, header},
		"DPoP proof of a token request": {func(n int) string {
			return head("POST", "/token", "Content-Type: "+form, "Content-Length: 0", "DPoP: "+fill(n))
		}, refused, header},
		"bootstrap key": {func(n int) string {
			return head("GET", keyring.PathKeyring, "X-Stellaops-Bootstrap-Key: "+fill(n))
		}, refused, header},
		"many headers": {func(n int) string {
			return head("GET", keyring.PathKeyring, strings.TrimSuffix(strings.Repeat("DPoP: a.b.c\r\n", max(n/13, 2)), "\r\n"))
		}, refused, header},
		"URL":                 {func(n int) string { return head("GET", keyring.PathKeyring+"?"+fill(n)) }, refused, header},
		"assertion":           {func(n int) string { return post("/token", form, credentials+fill(n)) }, refused, tooLarge},
		"assertion in chunks": {func(n int) string { return chunked("/token", form, credentials+fill(n)) }, refused, tooLarge},
		"assertion of dots":   {func(n int) string { return post("/token", form, credentials+strings.Repeat(".", n)) }, refused, tooLarge},
		"form":                {func(n int) string { return post("/token", form, strings.Repeat("a=b&", n/4)) }, refused, tooLarge},
		"form of escapes":     {func(n int) string { return post("/token", form, "a="+strings.Repeat("%41", n/3)) }, refused, tooLarge},
		"token to introspect": {func(n int) string { return post("/introspect", form, "client_id=a&token="+fill(n)) }, refused, tooLarge},
		"token to revoke":     {func(n int) string { return post("/revoke", form, "client_id=a&token="+fill(n)) }, refused, tooLarge},
		"refresh token": {func(n int) string {
			return post("/token", form, "grant_type=refresh_token&client_id=a&refresh_token="+fill(n))
		}, refused, tooLarge},
		"device code": {func(n int) string {
			return post("/token", form, "grant_type=urn:ietf:params:oauth:grant-type:device_code&client_id=a&device_code="+fill(n))
		}, refused, tooLarge},
		"scope of a device": {func(n int) string { return post("/device_authorization", form, "client_id=a&scope="+fill(n)) }, refused, tooLarge},
		"user code":         {func(n int) string { return post("/device", form, "user_code="+fill(n)) }, page, tooLarge},
		"password":          {func(n int) string { return post("/device/sign-in", form, "username=a&password="+fill(n)) }, page, tooLarge},
		"client document":   {document("/internal/clients", "client_name"), refused, tooLarge},
		"revocation":        {document("/internal/revocations", "reason"), refused, tooLarge},
		"service account":   {document("/internal/service-accounts/tokens", "reason"), refused, tooLarge},
	}
}

// A part of a megabyte is refused, at the cost of a small one, and the next
// request is served.
func TestOversizedRequests(t *testing.T) {
	r := single(t, nil)
	for name, o := range oversizedRequests() {
		t.Run(name, func(t *testing.T) {
			small, large := []byte(o.build(100)), []byte(o.build(megabyte))
			status, base := r.cost(small)
			if !slices.Contains(o.small, status) {
				t.Errorf("control of 100 bytes: %d, want one of %v", status, o.small)
			}
			if status := r.raw([]byte(o.build(20000))); !slices.Contains(o.small, status) { // within the server's bounds, beyond those of tokens
				t.Errorf("20000 bytes: %d, want one of %v", status, o.small)
			}
			status, cost := r.cost(large)
			if !slices.Contains(o.large, status) || len(large) < megabyte {
				t.Errorf("%d bytes: %d, want one of %v", len(large), status, o.large)
			}
			if cost > base+maxCost {
				t.Errorf("%d bytes allocated, %d for the small one", cost, base)
			}
			if a := r.do("GET", "/jwks", nil, nil); a.status != 200 {
				t.Errorf("the next request: %d", a.status)
			}
		})
	}
}

// frame is one of HTTP/2 (RFC 9113 section 4.1).
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// hpack writes a header field as a literal (RFC 7541 section 6.2.2).
func hpack(name, value string) []byte {
	text := func(b []byte, s string) []byte {
		if len(s) < 127 {
			return append(append(b, byte(len(s))), s...)
		}
		b = append(b, 127)
		rest := len(s) - 127
		for ; rest >= 128; rest >>= 7 {
			b = append(b, byte(rest)|128)
		}
		return append(append(b, byte(rest)), s...)
	}
	return text(text([]byte{0}, name), value)
}

// http2Request is a GET with more headers, in as many frames as it takes.
func http2Request(path string, headers []byte) []byte {
	block := bytes.Join([][]byte{hpack(":method", "GET"), hpack(":scheme", "https"), hpack(":path", path), hpack(":authority", "a"), headers}, nil)
	out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, nil)...)
	kind, flags := byte(1), byte(1) // HEADERS with END_STREAM, then CONTINUATION
	for {
		n := min(len(block), 16<<10)
		if n == len(block) {
			flags |= 4 // END_HEADERS
		}
		out = append(out, frame(kind, flags, 1, block[:n])...)
		if block = block[n:]; len(block) == 0 {
			return out
		}
		kind, flags = 9, 0
	}
}

// http2 sends a request and returns the first answer that ends it: the kind of
// frame and its payload.
func (r *replica) http2(request []byte) (kind byte, payload []byte) {
	r.t.Helper()
	c := r.rawConn("h2")
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = c.Write(request)
	}()
	defer func() { c.Close(); <-written }()
	for {
		var h [9]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			r.t.Errorf("no answer: %v", err)
			return 0, nil
		}
		payload := make([]byte, binary.BigEndian.Uint32(h[:4])>>8)
		if _, err := io.ReadFull(c, payload); err != nil {
			r.t.Errorf("answer cut short: %v", err)
			return 0, nil
		}
		if h[3] == 1 || h[3] == 3 || h[3] == 7 { // HEADERS, RST_STREAM, GOAWAY
			return h[3], payload
		}
	}
}

// The same over HTTP/2, where a header comes in any number of frames.
func TestOversizedHTTP2(t *testing.T) {
	r := single(t, nil)
	const ok = 0x88 // ":status: 200" in the static table of RFC 7541
	send := func(headers []byte) (kind byte, payload []byte, cost uint64) {
		request := http2Request("/jwks", headers)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		kind, payload = r.http2(request)
		runtime.ReadMemStats(&after)
		return kind, payload, after.TotalAlloc - before.TotalAlloc
	}
	kind, payload, base := send(hpack("authorization", "Bearer a.b.c"))
	if kind != 1 || len(payload) == 0 || payload[0] != ok {
		t.Fatalf("control: frame %d, %x", kind, payload)
	}
	for name, headers := range map[string][]byte{
		"one field":   hpack("authorization", "Bearer "+strings.Repeat("A", megabyte)),
		"many fields": bytes.Repeat(hpack("dpop", strings.Repeat("A", 100)), megabyte/106),
	} {
		kind, payload, cost := send(headers)
		if kind == 0 || kind == 1 && payload[0] == ok {
			t.Errorf("%s: frame %d, %x", name, kind, payload)
		}
		if cost > base+maxCost {
			t.Errorf("%s: %d bytes allocated, %d for the small one", name, cost, base)
		}
		if a := r.do("GET", "/jwks", nil, nil); a.status != 200 {
			t.Errorf("%s: the next request: %d", name, a.status)
		}
	}
}
