package httpd

import (
	"context"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/stella-ops/stella/internal/notify"
	"github.com/stella-ops/stella/internal/signals"
)

// readyEvery is the pause between readiness checks before READY=1.
const readyEvery = 250 * time.Millisecond

// announce tells the service manager when the service is ready.
func (s *Server) announce(ctx context.Context) {
	last := ""
	for !s.cfg.ReadyWhenListening {
		report := s.health.run(ctx, false)
		if report.Status == statusOK {
			break
		}
		if reason := report.reason(); reason != last {
			s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "not ready", slog.String("reason", reason))
			s.notify(ctx, "STATUS=not ready: "+oneLine(reason))
			last = reason
		}
		if signals.Sleep(ctx, readyEvery) != nil {
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	lines := []string{"READY=1", "STATUS=serving " + s.URL(), "X_STELLA_URL=" + s.URL()}
	if s.admin != nil {
		lines = append(lines, "X_STELLA_ADMIN_URL="+s.AdminURL())
	}
	for _, l := range s.open[1:] {
		lines = append(lines, "X_STELLA_"+l.name+"_URL="+l.url)
	}
	s.notify(ctx, lines...)
}

// notify tells the service manager; that it cannot be told is worth a log
// line, not the end of the service.
func (s *Server) notify(ctx context.Context, lines ...string) {
	if err := notify.Send(lines...); err != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "service manager not told", slog.Any("err", err))
	}
}

// hear serves SIGHUP (reload) and SIGUSR1 (log level) until ctx ends.
func (s *Server) hear(ctx context.Context, ch <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-ch:
			if sig == syscall.SIGHUP {
				s.Reload(ctx)
			} else {
				s.toggle(ctx)
			}
		}
	}
}

// Reload does what SIGHUP does: looks at the certificate files, then calls
// Config.Reload. What is bad is logged and the old state stays.
func (s *Server) Reload(ctx context.Context) {
	ok := true
	for _, l := range s.open {
		if l.certs != nil {
			ok = l.certs.reload() && ok
		}
	}
	if s.cfg.Reload != nil {
		if err := s.cfg.Reload(ctx); err != nil {
			ok = false
			s.cfg.Log.LogAttrs(ctx, slog.LevelError, "reload failed, keeping the old state", slog.Any("err", err))
		}
	}
	if ok {
		s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "reloaded")
		s.notify(ctx, "STATUS=reloaded, serving "+s.URL())
	} else {
		s.notify(ctx, "STATUS=reload failed, serving with the old state")
	}
}

func (s *Server) toggle(ctx context.Context) {
	if s.cfg.Level == nil {
		return
	}
	level := slog.LevelDebug
	if s.cfg.Level.Level() == slog.LevelDebug {
		level = slog.LevelInfo
	}
	s.cfg.Level.Set(level)
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "log level changed", slog.String("to", level.String()))
	s.notify(ctx, "STATUS=log level "+level.String()+", serving "+s.URL())
}

func oneLine(text string) string {
	out := []rune(text)
	for i, r := range out {
		if r < ' ' {
			out[i] = ' '
		}
	}
	return string(out[:min(len(out), 200)])
}
