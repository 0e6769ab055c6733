package users

import (
	"context"
	"errors"
	"log/slog"

	"github.com/stella-ops/stella/internal/authority/audit"
)

// report logs and counts how an attempt ended. The name goes into the log as
// a hash: it is personal, and people type passwords in its place.
func (d *Directory) report(ctx context.Context, name, remote string, err error) {
	who := []slog.Attr{
		slog.String("PluginName", PluginName), slog.String("Username", "sha256:"+nameKey(name)[:16]), slog.String("RemoteIp", remote),
	}
	locked, isLocked := errors.AsType[*LockedOut](err)
	switch {
	case err == nil:
		d.observe(Accepted)
	case isLocked:
		d.observe(Locked)
		d.log.LogAttrs(ctx, slog.LevelWarn, audit.TemplateLockedOut, append(who, slog.Duration("RetryAfter", locked.RetryAfter))...)
	case errors.Is(err, ErrCredentials):
		d.observe(Refused)
		d.log.LogAttrs(ctx, slog.LevelWarn, audit.TemplatePasswordFailed, who...)
	default: // the caller logs the cause with its answer
		d.observe(Failed)
	}
}
