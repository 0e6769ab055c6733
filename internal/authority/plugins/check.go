package plugins

import (
	"fmt"

	"github.com/stella-ops/stella/internal/authority/users"
	"github.com/stella-ops/stella/internal/fault"
)

// check judges a decoded manifest beyond the types of its values; the first
// mistake is told.
func (s *Standard) check(lines map[string]int) error {
	b, l := s.BootstrapUser, s.Lockout
	var hashing string
	if err := s.Policy().Hashing.Check(); err != nil {
		hashing = err.Error()
	}
	for _, rule := range []struct {
		broken          bool
		key, text, hint string
	}{
		{b.Username != "" && !users.ValidName(users.Normalise(b.Username)), "bootstrapUser.username", "want letters, digits and ._-@+ , beginning with a letter or digit", ""},
		{b.Username != "" && b.Password == "", "bootstrapUser.password", "is required with username", "write a reference: file:PATH or cred:NAME"},
		{b.Username != "" && b.Tenant == "", "bootstrapUser.tenant", "is required with username", ""},
		{b.Username == "" && (b.Password != "" || b.Tenant != "" || len(b.Scopes)+len(b.Roles) > 0), "bootstrapUser.username", "is required with the rest of bootstrapUser", ""},
		{b.RequirePasswordReset, "bootstrapUser.requirePasswordReset", "must be false: there is no page on which a person changes a password",
			"change it with POST " + users.Path + "/NAME/password"},
		{s.PasswordPolicy.MinimumLength < 8 || s.PasswordPolicy.MinimumLength > 256, "passwordPolicy.minimumLength", "is not between 8 and 256", ""},
		{hashing != "", "passwordHashing", hashing, ""},
		{l.MaxAttempts < 1 || l.MaxAttempts > users.MaxAttempts, "lockout.maxAttempts", fmt.Sprintf("is not between 1 and %d", users.MaxAttempts), "lockout.enabled: false turns it off"},
		{l.WindowMinutes < 1 || l.WindowMinutes > int(users.MaxWindow.Minutes()), "lockout.windowMinutes", "is not between 1 and 1440", ""},
	} {
		if !rule.broken {
			continue
		}
		where := s.Path
		if line := lines[rule.key]; line > 0 {
			where = fmt.Sprintf("%s:%d", s.Path, line)
		}
		err := fault.Errorf(fault.Config, "%s: %s: %s", where, rule.key, rule.text)
		if rule.hint != "" {
			return err.Hint("%s", rule.hint)
		}
		return err
	}
	return nil
}
