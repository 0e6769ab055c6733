// Package obs makes the loggers and the metric registry of every program.
//
// It guarantees that a log line holds no secret (by key, by type and by shape
// of the value), that a logged value cannot forge a second line, and that
// metrics live in a registry of their own.
package obs

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// NewLogger returns a logger that writes to w in format "json" or "text" (the
// default) at the given level, which may change while it runs.
func NewLogger(w io.Writer, format string, level *slog.LevelVar) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: Redact}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// Format returns "text" for a terminal and "json" otherwise: under a service
// manager (JOURNAL_STREAM or NOTIFY_SOCKET is set) and in a pipe.
func Format(getenv func(string) string, terminal bool) string {
	if terminal && getenv("JOURNAL_STREAM") == "" && getenv("NOTIFY_SOCKET") == "" {
		return "text"
	}
	return "json"
}

// Redact is the ReplaceAttr of all our loggers.
func Redact(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindLogValuer {
		a.Value = a.Value.Resolve()
	}
	if sensitive(a.Key) || slices.ContainsFunc(groups, sensitive) {
		switch a.Value.Kind() {
		case slog.KindString, slog.KindAny, slog.KindLogValuer:
			return slog.String(a.Key, redacted)
		}
		return a
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if clean := Scrub(a.Value.String()); clean != a.Value.String() {
			return slog.String(a.Key, clean)
		}
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case http.Header, *http.Request, *http.Response, []byte:
			return slog.String(a.Key, redacted)
		case *url.URL:
			if v != nil {
				return slog.String(a.Key, v.Scheme+"://"+v.Host+v.EscapedPath())
			}
		case error:
			return slog.String(a.Key, Scrub(v.Error()))
		}
	}
	return a
}

// sensitive reports whether a key names a secret. Facts about a secret
// (token_type, key_id, secret_file) do not count.
func sensitive(key string) bool {
	key = strings.ToLower(strings.ReplaceAll(key, "-", "_"))
	for _, suffix := range []string{
		"_id", "_ids", "_type", "_kind", "_count", "_url", "_uri", "_file", "_path", "_ref",
		"_endpoint", "_method", "_lifetime", "_expires", "_expiry", "_status", "_jkt",
	} {
		if strings.HasSuffix(key, suffix) {
			return false
		}
	}
	for _, word := range []string{
		"token", "secret", "password", "passwd", "passphrase", "authorization", "assertion",
		"dpop", "cookie", "private_key", "privatekey", "user_code", "device_code", "api_key", "apikey",
	} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// Scrub replaces what looks like a credential inside text: a JWT, and what
// follows "Bearer ", "DPoP " or "Basic ".
func Scrub(text string) string {
	if !strings.Contains(text, "eyJ") && !containsScheme(text) {
		return text
	}
	words := strings.SplitAfter(text, " ")
	for i, w := range words {
		switch {
		case i > 0 && isScheme(words[i-1]) && len(strings.TrimSpace(w)) >= 16:
			words[i] = redacted + w[len(strings.TrimRight(w, " ")):]
		default:
			words[i] = scrubJWTs(w)
		}
	}
	return strings.Join(words, "")
}

func scrubJWTs(word string) string {
	var b strings.Builder
	for {
		at := strings.Index(word, "eyJ")
		if at < 0 {
			b.WriteString(word)
			return b.String()
		}
		end := at
		for end < len(word) && tokenByte(word[end]) {
			end++
		}
		b.WriteString(word[:at])
		if found := word[at:end]; len(found) >= 20 && strings.Contains(found, ".") {
			b.WriteString(redacted)
		} else {
			b.WriteString(found)
		}
		word = word[end:]
	}
}

func containsScheme(text string) bool {
	if strings.IndexByte(text, ' ') < 0 {
		return false // every scheme is followed by a space; most values have none
	}
	lower := strings.ToLower(text)
	return strings.Contains(lower, "bearer ") || strings.Contains(lower, "dpop ") || strings.Contains(lower, "basic ")
}

func isScheme(word string) bool {
	word = strings.ToLower(strings.Trim(word, " \"':"))
	return word == "bearer" || word == "dpop" || word == "basic"
}

func tokenByte(c byte) bool {
	return c == '.' || c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
