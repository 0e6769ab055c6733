package mint

import (
	"strconv"
	"unicode/utf8"
)

// claims appends the claims set, built by hand: a map would cost more than the
// signature's hash.
func (g *Grant) claims(b []byte, issuer string, t *Token) []byte {
	b = append(b, `{"iss":`...)
	b = AppendString(b, issuer)
	b = field(b, "sub", g.Subject)
	b = field(b, "aud", g.Audience)
	b = number(b, "exp", t.Expires.Unix())
	b = number(b, "iat", t.IssuedAt.Unix())
	b = number(b, "nbf", t.IssuedAt.Unix())
	b = field(b, "jti", t.JTI)
	b = field(b, "client_id", g.ClientID)
	if len(g.Scopes) > 0 {
		b = field(b, "scope", g.Scope)
		b = list(b, "scp", g.Scopes)
	}
	b = field(b, "stellaops:tenant", g.Tenant)
	b = optional(b, "stellaops:allowed_tenants", g.AllTenants)
	if len(g.Roles) > 0 {
		b = list(b, "roles", g.Roles)
	}
	b = optional(b, "preferred_username", g.Name)
	if !g.AuthTime.IsZero() {
		b = number(b, "auth_time", g.AuthTime.Unix())
	}
	b = optional(b, "service_identity", g.Service)
	if g.Actor != "" {
		b = append(b, `,"act":{"sub":`...)
		b = append(AppendString(b, g.Actor), '}')
	}
	b = optional(b, "stellaops:reason", g.Reason)
	return append(g.confirmation(b), '}')
}

// confirmation is the member cnf (RFC 7800): what the sender must prove.
func (g *Grant) confirmation(b []byte) []byte {
	switch {
	case g.JKT != "" && g.X5T != "":
		b = append(b, `,"cnf":{"jkt":`...)
		b = field(AppendString(b, g.JKT), "x5t#S256", g.X5T)
	case g.JKT != "":
		b = append(b, `,"cnf":{"jkt":`...)
		b = AppendString(b, g.JKT)
	case g.X5T != "":
		b = append(b, `,"cnf":{"x5t#S256":`...)
		b = AppendString(b, g.X5T)
	default:
		return b
	}
	return append(b, '}')
}

func optional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return field(b, name, value)
}

func field(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return AppendString(b, value)
}

func number(b []byte, name string, n int64) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendInt(b, n, 10)
}

func list(b []byte, name string, values []string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":[`...)
	for i, s := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, s)
	}
	return append(b, ']')
}

// AppendString appends s as a JSON string.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // U+FFFD for what is not UTF-8
			i += n
		}
	}
	return append(b, '"')
}
