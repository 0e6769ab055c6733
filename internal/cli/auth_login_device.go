package cli

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/oauth"
	"github.com/stella-ops/stella/internal/ui"
)

// SchemaAuthLoginDevice is the schema of what auth login prints as JSON while a
// person has to act.
const SchemaAuthLoginDevice = "stella.auth.login.device/v1"

// deviceView is stella.auth.login.device/v1.
type deviceView struct {
	UserCode                string    `json:"user_code"`
	VerificationURI         string    `json:"verification_uri"`
	VerificationURIComplete string    `json:"verification_uri_complete,omitempty"`
	ExpiresAt               time.Time `json:"expires_at"`
}

// device logs a person in: it shows where and what to type, and how long there
// is time, until that has happened.
func (s *authSession) device(ctx context.Context, opts authLoginOptions) (*oauth.Token, error) {
	counting, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	shown := false
	t, err := s.client.Device(ctx, func(code oauth.DeviceCode) error {
		s.close()
		if err := s.invite(code, opts); err != nil {
			return err
		}
		shown = true
		go func() {
			defer close(done)
			_ = s.line.Countdown(counting, code.ExpiresAt, func(left time.Duration) string {
				return fmt.Sprintf("Waiting for the login (the code expires in %d:%02d)", left/time.Minute, left%time.Minute/time.Second)
			})
		}()
		return nil
	})
	stop()
	if shown {
		<-done
	}
	return t, err
}

// invite tells a person what to do. It is no progress and no note: without it
// nobody can log in, so Quiet does not silence it.
func (s *authSession) invite(code oauth.DeviceCode, opts authLoginOptions) error {
	direct := code.VerificationURIComplete
	if direct == "" {
		direct = code.VerificationURI
	}
	out := s.app.Streams
	if out.Format == ui.JSON {
		v := deviceView{code.UserCode, code.VerificationURI, code.VerificationURIComplete, code.ExpiresAt.UTC().Truncate(time.Second)}
		if err := out.Render(SchemaAuthLoginDevice, v, nil); err != nil {
			return err
		}
	} else {
		_, err := fmt.Fprintf(out.Err, "To log in, open this page on any device with a browser:\n\n  %s\n\nand enter this code:\n\n  %s\n\n",
			ui.Clean(code.VerificationURI), ui.Clean(code.UserCode))
		if err != nil {
			return fmt.Errorf("showing the login code: %w", err)
		}
		if !opts.noQR {
			out.QR(direct)
		}
	}
	if opts.browser {
		s.openBrowser(direct)
	}
	return nil
}

// openBrowser opens url on the desktop, if there is one. A failure costs the
// person a copy and paste, and the login goes on.
func (s *authSession) openBrowser(url string) {
	if s.app.getenv("DISPLAY") == "" && s.app.getenv("WAYLAND_DISPLAY") == "" {
		s.streams.Warn("no desktop is here (DISPLAY and WAYLAND_DISPLAY are not set): open the page elsewhere")
		return
	}
	cmd := exec.Command("xdg-open", url)
	cmd.Env = slices.DeleteFunc(slices.Clone(s.app.Environ), func(line string) bool { return strings.HasPrefix(line, "STELLA_") })
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // our Ctrl-C is not the browser's
	if err := cmd.Start(); err != nil {
		s.streams.Warn("opening a browser: %v", err)
		return
	}
	go func() { _ = cmd.Wait() }()
}
