// Package browser lets tests use the Authority's pages as people do, in
// Debian's Chromium, and checks that they are accessible.
//
// It guarantees that each Browser is a process of its own with a new profile,
// that it trusts the one certificate it is given and no other that its own
// roots do not vouch for, that no step takes longer than a bound, and that
// each accessibility rule is one that a broken page fails (its own tests prove
// it). A test without Chromium is skipped with the reason, or fails where
// STELLA_TEST_REQUIRE lists chromium. For tests only.
package browser

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/stella-ops/stella/internal/testenv"
)

// patience bounds each step; a busy machine starts a browser in seconds.
const patience = time.Minute

// screenshotEnv names a directory for screenshots; none are taken without it.
const screenshotEnv = "STELLA_TEST_SCREENSHOTS"

// Browser is a running Chromium with one tab. Its methods end the test on
// failure, so they belong to the test's own goroutine.
type Browser struct {
	t   testing.TB
	ctx context.Context
}

// New starts a browser that ends with the test. certFile is a PEM file with
// the certificate that the server under test presents (a root alone does not
// do: a browser matches what the server sends); empty: trust nothing extra.
func New(t testing.TB, certFile string) *Browser {
	t.Helper()
	path := testenv.Need(t, "chromium", "chromium")
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Headless, chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en"),
	}
	if certFile != "" {
		pins, err := pins(certFile)
		if err != nil {
			t.Fatal(err)
		}
		options = append(options, chromedp.Flag("ignore-certificate-errors-spki-list", pins))
	}
	process, stop := chromedp.NewExecAllocator(context.Background(), options...)
	tab, _ := chromedp.NewContext(process, chromedp.WithErrorf(t.Logf))
	b := &Browser{t, tab}
	t.Cleanup(func() {
		_ = chromedp.Cancel(tab) // asks it to end, and waits
		stop()
		_ = os.RemoveAll(profile)
	})
	// The first Run starts the process, whose life is that of its context: it
	// must not be given one with a timeout.
	if err := chromedp.Run(tab); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	return b
}

// pins returns the SHA-256 of the public keys of all certificates in a file.
func pins(certFile string) (string, error) {
	data, err := os.ReadFile(certFile)
	if err != nil {
		return "", err
	}
	var all []string
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("certificate file %q: %w", certFile, err)
		}
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		all = append(all, base64.StdEncoding.EncodeToString(sum[:]))
	}
	if len(all) == 0 {
		return "", fmt.Errorf("certificate file %q holds no certificate", certFile)
	}
	return strings.Join(all, ","), nil
}

// Run runs actions, bounded.
func (b *Browser) Run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// load runs actions that lead to another page, waits until it is there and
// returns its status.
func (b *Browser) load(actions ...chromedp.Action) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	answer, err := chromedp.RunResponse(ctx, actions...)
	if err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	return int(answer.Status)
}

// Open goes to a URL as if it were typed, and returns the status.
func (b *Browser) Open(url string) int {
	b.t.Helper()
	return b.load(chromedp.Navigate(url))
}

// TryOpen is Open for a URL that may not answer.
func (b *Browser) TryOpen(url string) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Navigate(url))
}

// Click clicks what the CSS selector finds and returns the status of the page
// to which that leads.
func (b *Browser) Click(selector string) int {
	b.t.Helper()
	return b.load(chromedp.Click(selector, chromedp.ByQuery))
}

// DoubleClick clicks twice, as people do who are not sure; Until tells where
// that leads.
func (b *Browser) DoubleClick(selector string) {
	b.t.Helper()
	b.Run(chromedp.DoubleClick(selector, chromedp.ByQuery))
}

// Press clicks what the CSS selector finds, which leads to no other page.
func (b *Browser) Press(selector string) {
	b.t.Helper()
	b.Run(chromedp.Click(selector, chromedp.ByQuery))
}

// Back goes back as the browser's button does.
func (b *Browser) Back() {
	b.t.Helper()
	b.Run(chromedp.NavigateBack())
}

// Fill replaces what is in a field by typed text.
func (b *Browser) Fill(selector, text string) {
	b.t.Helper()
	b.Run(chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q).select()", selector), nil), chromedp.KeyEvent(text))
}

// Eval returns what a JavaScript expression yields. It works in spite of the
// page's content security policy.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	var v T
	b.Run(chromedp.Evaluate(expression, &v))
	return v
}

// Text returns the text of the page as people see it.
func (b *Browser) Text() string {
	b.t.Helper()
	return Eval[string](b, "document.body.innerText")
}

// URL returns the address of the page.
func (b *Browser) URL() string {
	b.t.Helper()
	return Eval[string](b, "location.href")
}

// Until waits until a JavaScript expression is true, also over pages that lead
// on by themselves.
func (b *Browser) Until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var holds bool
		// An error is a page that went away under the question.
		if err := chromedp.Run(ctx, chromedp.Evaluate(expression, &holds)); err == nil && holds {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("browser: %s is not true", expression)
		case <-tick.C:
		}
	}
}

// Cookies returns the cookies that the page's URL gets.
func (b *Browser) Cookies() []*network.Cookie {
	b.t.Helper()
	var all []*network.Cookie
	b.Run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		all, err = network.GetCookies().Do(ctx)
		return err
	}))
	return all
}

// Resize sets the size of the window in CSS pixels.
func (b *Browser) Resize(width, height int64) {
	b.t.Helper()
	b.Run(chromedp.EmulateViewport(width, height))
}

// Dark switches the dark colour scheme.
func (b *Browser) Dark(on bool) {
	b.t.Helper()
	value := "light"
	if on {
		value = "dark"
	}
	b.Run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}))
}

// NoScript switches JavaScript off in pages.
func (b *Browser) NoScript() {
	b.t.Helper()
	b.Run(emulation.SetScriptExecutionDisabled(true))
}

// Screenshot writes NAME.png, the whole page, to the directory that
// STELLA_TEST_SCREENSHOTS names, if it names one.
func (b *Browser) Screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv(screenshotEnv)
	if dir == "" {
		return
	}
	var png []byte
	b.Run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		png, err = page.CaptureScreenshot().WithCaptureBeyondViewport(true).Do(ctx)
		return err
	}))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}
