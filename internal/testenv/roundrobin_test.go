package testenv_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stella-ops/stella/internal/testenv"
)

// A backend that is away is skipped and nothing is lost; one that dies with a
// request in hand loses it, and the request is sent to no other.
func TestRoundRobin(t *testing.T) {
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var served, dying atomic.Int64
	good, err := testenv.Serve(t.Context(), ca, "good", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = io.Copy(w, r.Body)
	}))
	if err != nil {
		t.Fatal(err)
	}
	dies, err := testenv.Serve(t.Context(), ca, "dies", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		dying.Add(1)
		panic(http.ErrAbortHandler)
	}))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := "https://" + l.Addr().String()
	l.Close()
	proxy := testenv.NewRoundRobin(ca.Client())
	proxy.Fresh = true
	front, err := testenv.Serve(t.Context(), ca, "front", proxy)
	if err != nil {
		t.Fatal(err)
	}
	post := func() (*http.Response, string) {
		t.Helper()
		resp, err := ca.Client().Post(front+"/x", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	if err := proxy.Set(away, good, away); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if resp, body := post(); resp.StatusCode != 200 || body != "hello" {
			t.Errorf("%s %s", resp.Status, body)
		}
	}
	if n := len(proxy.Losses()); n != 0 || served.Load() != 6 {
		t.Errorf("%d lost, %d served", n, served.Load())
	}
	if err := proxy.Set(dies, good); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for range 6 {
		if resp, _ := post(); resp.StatusCode == 502 && resp.Header.Get(testenv.LostHeader) == dies {
			lost++
		}
	}
	if all := proxy.Losses(); lost != 3 || dying.Load() != 3 || served.Load() != 9 || len(all) != 3 || all[0].Backend != dies || all[0].Request != "POST /x" {
		t.Errorf("%d lost, %d taken by the one that dies, %d served, %+v", lost, dying.Load(), served.Load(), all)
	}
	if err := proxy.Set(away); err != nil {
		t.Fatal(err)
	}
	if resp, _ := post(); resp.StatusCode != 502 || resp.Header.Get(testenv.LostHeader) != "" {
		t.Errorf("nobody there: %s", resp.Status)
	}
}
