package config

import "log/slog"

// Level parses STELLA_LOG_LEVEL.
func Level(text string) (slog.Level, bool) {
	switch text {
	case "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn":
		return slog.LevelWarn, true
	case "error":
		return slog.LevelError, true
	}
	return 0, false
}
