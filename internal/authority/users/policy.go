package users

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

// Bounds of a password, in bytes, whatever the policy says.
const (
	minPassword = 8
	maxPassword = 1024
)

// Policy is what a reload may change.
type Policy struct {
	Password PasswordRules
	Hashing  Hashing
	Lockout  Lockout
}

// PasswordRules are what a new password must have. Those in use are not
// judged again.
type PasswordRules struct {
	MinimumLength               int // characters
	Upper, Lower, Digit, Symbol bool
}

// Lockout is how often a name may fail. Windows are fixed: they begin at
// multiples of Window since 1970. The attempt that uses up MaxAttempts locks
// the name for one Window from that moment on.
type Lockout struct {
	Enabled     bool
	MaxAttempts int           // 1 to MaxAttempts
	Window      time.Duration // whole seconds
}

// Bounds of Lockout. An attempt costs one insert for each that failed before
// it in its window.
const (
	MaxAttempts = 100
	MaxWindow   = 24 * time.Hour
)

// DefaultPolicy is the policy of an empty manifest. It asks for length and for
// no kinds of characters (NIST SP 800-63B section 3.1.1.2).
//
// Of the settings of argon2id that OWASP's password storage cheat sheet calls
// equally strong this is the one with 19 MiB and two passes: each CPU has a
// hash under way when many log in, and 19 MiB each fits where 46 MiB would
// not.
func DefaultPolicy() Policy {
	return Policy{
		Password: PasswordRules{MinimumLength: 12},
		Hashing:  Hashing{MemoryKiB: 19456, Iterations: 2, Parallelism: 1},
		Lockout:  Lockout{Enabled: true, MaxAttempts: 5, Window: 15 * time.Minute},
	}
}

// opaque prepares a password as RFC 8265 section 4 says, so that one typed on
// another keyboard is the same: NFC, any space is a space, no controls.
func opaque(password string) (string, error) {
	if len(password) > maxPassword {
		return "", fmt.Errorf("more than %d bytes", maxPassword)
	}
	p, err := precis.OpaqueString.String(password)
	if err != nil || len(p) > maxPassword || !utf8.ValidString(password) { // the profile would replace bad bytes
		return "", errors.New("control characters and unassigned characters are not accepted")
	}
	return p, nil
}

// check returns the password in its stored form, or all that is wrong with it.
// The text never repeats the password.
func (r PasswordRules) check(password, name string) (string, error) {
	p, err := opaque(password)
	if err != nil {
		return "", err
	}
	has := func(is func(rune) bool) bool { return strings.ContainsFunc(p, is) }
	var wants []string
	if utf8.RuneCountInString(p) < r.MinimumLength || len(p) < minPassword {
		wants = append(wants, fmt.Sprintf("at least %d characters", max(r.MinimumLength, minPassword)))
	}
	for _, rule := range []struct {
		on   bool
		is   func(rune) bool
		text string
	}{
		{r.Upper, unicode.IsUpper, "an upper-case letter"},
		{r.Lower, unicode.IsLower, "a lower-case letter"},
		{r.Digit, unicode.IsDigit, "a digit"},
		{r.Symbol, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != ' ' }, "a symbol"},
	} {
		if rule.on && !has(rule.is) {
			wants = append(wants, rule.text)
		}
	}
	if strings.Contains(strings.ToLower(p), name) && len(name) >= 3 {
		wants = append(wants, "something else than the user name")
	}
	if len(wants) > 0 {
		return "", errors.New("the password needs " + strings.Join(wants, ", "))
	}
	return p, nil
}
