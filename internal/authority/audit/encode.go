package audit

import (
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// timeFormat is RFC 3339 in UTC with microseconds, always the same length, so
// that records sort as text.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// AppendJSON appends r to b as one line of JSON, without a newline. Members
// come in a fixed order; what is empty is left out.
func (r *Record) AppendJSON(b []byte) []byte {
	b = append(b, `{"schema":"`+Schema+`","eventType":`...)
	b = appendString(b, r.Type)
	b = append(b, `,"occurredAt":"`...)
	b = r.OccurredAt.UTC().Truncate(time.Microsecond).AppendFormat(b, timeFormat)
	b = append(b, '"')
	if r.CorrelationID != "" {
		b = append(b, `,"correlationId":`...)
		b = appendString(b, r.CorrelationID)
	}
	b = append(b, `,"outcome":`...)
	b = appendString(b, string(r.Outcome))
	b = appendMember(b, "reason", r.Reason)
	b = appendObject(b, "subject", [...]member{
		{"id", r.Subject.ID}, {"username", r.Subject.Username}, {"displayName", r.Subject.DisplayName}, {"realm", r.Subject.Realm}})
	b = appendObject(b, "client", [...]member{{"id", r.Client.ID}, {"name", r.Client.Name}, {"provider", r.Client.Provider}, {}})
	b = appendMember(b, "tenant", r.Tenant)
	b = appendScopes(b, r.Scopes)
	b = appendObject(b, "network", [...]member{
		{"remoteAddress", r.Network.RemoteAddress}, {"forwardedFor", r.Network.ForwardedFor}, {"userAgent", r.Network.UserAgent}, {}})
	b = appendProperties(b, r.Properties)
	return append(b, '}')
}

type member struct {
	name  string
	value Value
}

// appendObject appends the member name with those of the parts that are not
// empty, or nothing.
func appendObject(b []byte, name string, parts [4]member) []byte {
	start := len(b)
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":{`...)
	empty := len(b)
	for _, p := range parts {
		b = appendMember(b, p.name, p.value)
	}
	if len(b) == empty {
		return b[:start]
	}
	// The first member needs no comma.
	b = append(b[:empty], b[empty+1:]...)
	return append(b, '}')
}

func appendMember(b []byte, name string, v Value) []byte {
	if v.text == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":{`...)
	return append(appendValue(b, v), '}')
}

func appendValue(b []byte, v Value) []byte {
	b = append(b, `"value":`...)
	b = appendString(b, v.text)
	b = append(b, `,"classification":"`...)
	b = append(b, v.class.String()...)
	return append(b, '"')
}

func appendScopes(b []byte, scopes []Value) []byte {
	for i, s := range scopes {
		if i == 0 {
			b = append(b, `,"scopes":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, '{')
		b = append(appendValue(b, s), '}')
	}
	if len(scopes) > 0 {
		b = append(b, ']')
	}
	return b
}

func appendProperties(b []byte, props []Property) []byte {
	any := false
	for _, p := range props {
		if p.Value.text == "" {
			continue
		}
		if !any {
			b = append(b, `,"properties":[{"name":`...)
		} else {
			b = append(b, `,{"name":`...)
		}
		any = true
		b = append(appendString(b, p.Name), ',')
		b = append(appendValue(b, p.Value), '}')
	}
	if any {
		b = append(b, ']')
	}
	return b
}

// appendString appends s as a JSON string. Beside what JSON asks for, all that
// a terminal or a viewer does not show as itself is escaped: control
// characters, line separators, marks that turn the direction of text.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		r, n := rune(c), 1
		if c >= utf8.RuneSelf {
			if r, n = utf8.DecodeRuneInString(s[i:]); strconv.IsPrint(r) && !(r == utf8.RuneError && n == 1) {
				i += n
				continue
			}
		}
		b = appendEscape(append(b, s[from:i]...), r)
		i += n
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

func appendEscape(b []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r > 0xffff:
		hi, lo := utf16.EncodeRune(r)
		return appendEscape(appendEscape(b, hi), lo)
	}
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
