package audit

import (
	"context"
	"encoding/json"
	"log/slog"
)

// LoggerName is the value of the attribute "logger" on lines of a log sink.
const LoggerName = "StellaOps.Authority.Audit"

// logMessage is the message of such a line, and the attribute with the record.
const logMessage = "audit"

type logSink struct{ log *slog.Logger }

// NewLog returns a Sink that writes each record as one line of log, level
// info, with the record as JSON in the attribute "audit".
func NewLog(log *slog.Logger) Sink {
	return logSink{log.With(slog.String("logger", LoggerName))}
}

// Write implements Sink.
func (s logSink) Write(ctx context.Context, r *Record) {
	if !s.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	// Not from a pool: a handler may keep it.
	doc := json.RawMessage(r.AppendJSON(make([]byte, 0, 1024)))
	s.log.LogAttrs(ctx, slog.LevelInfo, logMessage, slog.Any(logMessage, doc))
}
