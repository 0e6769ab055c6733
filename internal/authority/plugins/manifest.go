package plugins

import "github.com/stella-ops/stella/internal/secret"

// Standard is standard.yaml: the people that the Authority keeps itself. Names
// that upstream's manifest has too mean the same here.
// docs/config-authority-plugins.md is the same list for operators.
type Standard struct {
	// Path is the file, or "" when there is none.
	Path string `yaml:"-"`
	dir  string

	// BootstrapUser is a first user, created where there is none of that name.
	BootstrapUser BootstrapUser `yaml:"bootstrapUser"`
	// PasswordPolicy is what a new password must have.
	PasswordPolicy PasswordPolicy `yaml:"passwordPolicy"`
	// PasswordHashing is how passwords are stored.
	PasswordHashing PasswordHashing `yaml:"passwordHashing"`
	// Lockout is how often a name may fail.
	Lockout Lockout `yaml:"lockout"`
	// TokenSigning is upstream's place for the key directory.
	TokenSigning TokenSigning `yaml:"tokenSigning"`
}

// BootstrapUser is a user that is never overwritten once it exists.
type BootstrapUser struct {
	// Username is the login name; empty (the default): no such user.
	Username string `yaml:"username"`
	// Password is a secret reference to the first password, which must be one
	// that passwordPolicy accepts.
	Password secret.Ref `yaml:"password"`
	// RequirePasswordReset is upstream's; true is refused, because there is no
	// page on which a person changes a password.
	RequirePasswordReset bool `yaml:"requirePasswordReset"`
	// Scopes that the user may hand on to a client.
	Scopes []string `yaml:"scopes"`
	// Roles of the user.
	Roles []string `yaml:"roles"`
	// Tenant is the user's tenant, required with username.
	Tenant string `yaml:"tenant"`
}

// PasswordPolicy is what a new password must have. Passwords in use are not
// judged again.
type PasswordPolicy struct {
	// MinimumLength in characters: 8 to 256, default 12.
	MinimumLength int `yaml:"minimumLength"`
	// RequireUppercase wants an upper-case letter, default false.
	RequireUppercase bool `yaml:"requireUppercase"`
	// RequireLowercase wants a lower-case letter, default false.
	RequireLowercase bool `yaml:"requireLowercase"`
	// RequireDigit wants a digit, default false.
	RequireDigit bool `yaml:"requireDigit"`
	// RequireSymbol wants something that is neither letter nor digit nor
	// space, default false.
	RequireSymbol bool `yaml:"requireSymbol"`
}

// PasswordHashing is how passwords are stored. A password is stored anew at
// the login after a change of this.
type PasswordHashing struct {
	// Algorithm must be Argon2id, which is the default.
	Algorithm Algorithm `yaml:"algorithm"`
	// MemorySizeInKib is the memory of one hash: 7168 to 262144, default 19456.
	// One hash for each CPU is under way at most.
	MemorySizeInKib uint32 `yaml:"memorySizeInKib"`
	// Iterations is the number of passes, 1 to 16, default 2. Memory times
	// iterations must be at least 35840.
	Iterations uint32 `yaml:"iterations"`
	// Parallelism is the number of lanes, 1 to 16, default 1.
	Parallelism uint8 `yaml:"parallelism"`
}

// Algorithm hashes passwords.
type Algorithm string

// Allowed implements strictyaml.Enum.
func (Algorithm) Allowed() []string { return []string{"Argon2id"} }

// Lockout is how often a name may fail.
type Lockout struct {
	// Enabled, default true.
	Enabled bool `yaml:"enabled"`
	// MaxAttempts that one name has in a window: 1 to 100, default 5.
	MaxAttempts int `yaml:"maxAttempts"`
	// WindowMinutes is how long attempts count, and how long the last of them
	// locks the name: 1 to 1440, default 15.
	WindowMinutes int `yaml:"windowMinutes"`
}

// TokenSigning is upstream's place for the key directory.
type TokenSigning struct {
	// KeyDirectory holds the keyring, relative to the manifest; default
	// ../keys. signing.keyDirectory of the main file wins.
	KeyDirectory string `yaml:"keyDirectory"`
}
