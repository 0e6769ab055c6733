// Package store says what the Authority keeps outside its keyring: clients,
// users, records of what happened (logins, grants, revocations), single-use
// identifiers, shared secrets, counts of live tokens, and what was seen at
// vantage points.
//
// It guarantees nothing by itself; every implementation (mem, mongostore)
// guarantees what the interfaces here say, and storetest proves it on each.
// The rule behind all of them: single use, first-writer-wins and removal are
// inserts under a unique key or deletes, never conditional updates, and
// everything else is replaced whole by its only writer. Tokens are never
// stored.
package store

import (
	"context"
	"errors"
	"time"
)

// Errors of a store. Anything else means that the store could not be reached
// or did not answer in time; the operation may or may not have happened.
var (
	ErrNotFound = errors.New("not in the store")
	ErrExists   = errors.New("already in the store")
	// ErrFull means that a bounded store has no room for what it must
	// remember. It never forgets something early to make room.
	ErrFull = errors.New("the store is full")
)

// Client is a registered OAuth client.
type Client struct {
	ID           string
	Name         string
	Method       string // token_endpoint_auth_method
	SecretHash   []byte // SHA-256 of a generated secret of 256 bits; nil without one
	JWKS         []byte // public JWK set (JSON); nil without one
	Scopes       []string
	Audiences    []string
	Tenant       string   // default tenant; may be empty
	Tenants      []string // assigned tenants
	Grants       []string // grant types; empty: client_credentials only
	Introspects  []string // audiences whose tokens it may introspect
	DPoPRequired bool
	CertRequired bool // tokens must be bound to its TLS certificate
	Service      bool // operators may mint tokens in its name
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// Clients keeps registered clients. Writes are durable when they return.
type Clients interface {
	// Client returns the client or ErrNotFound. The caller owns the result.
	Client(ctx context.Context, id string) (*Client, error)
	// CreateClient stores a new client; ErrExists when the id is taken. Of
	// many concurrent calls for one id exactly one succeeds.
	CreateClient(ctx context.Context, c *Client) error
	// ReplaceClient replaces an existing client whole, last writer wins;
	// ErrNotFound when there is none.
	ReplaceClient(ctx context.Context, c *Client) error
	// DeleteClient removes a client; ErrNotFound when there is none. Of many
	// concurrent calls exactly one succeeds.
	DeleteClient(ctx context.Context, id string) error
}

// User is a person who can log in.
type User struct {
	Name         string // login name, normalised; unique
	Subject      string // opaque, never used again for another person
	DisplayName  string
	PasswordHash string   // PHC string; empty: cannot log in by password
	Scopes       []string // what the user may hand on to a client
	Roles        []string
	Tenant       string   // default tenant; may be empty
	Tenants      []string // assigned tenants
	Disabled     bool
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// Users keeps the people who can log in. Writes are durable when they return.
type Users interface {
	// User returns the user or ErrNotFound. The caller owns the result.
	User(ctx context.Context, name string) (*User, error)
	// CreateUser stores a new user; ErrExists when the name is taken. Of many
	// concurrent calls for one name exactly one succeeds.
	CreateUser(ctx context.Context, u *User) error
	// ReplaceUser replaces an existing user whole, last writer wins;
	// ErrNotFound when there is none.
	ReplaceUser(ctx context.Context, u *User) error
	// DeleteUser removes a user; ErrNotFound when there is none. Of many
	// concurrent calls exactly one succeeds.
	DeleteUser(ctx context.Context, name string) error
}

// Kind is what a Record is about. Each has a collection of its own.
type Kind string

// The kinds of records. What Data holds is said by the package that writes it.
const (
	DeviceCodes     Kind = "device_codes"     // device authorization requests
	DeviceEvents    Kind = "device_events"    // what became of them: claimed, decided, redeemed, polled
	Sessions        Kind = "sessions"         // browsers that have logged in
	Attempts        Kind = "login_attempts"   // failed logins and lockouts
	Grants          Kind = "grants"           // families of refresh tokens
	Tokens          Kind = "tokens"           // refresh tokens, one record a use
	Revocations     Kind = "revocations"      // what is refused although it has not expired
	RevocationLists Kind = "revocation_lists" // exported bundles, by sequence
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{DeviceCodes, DeviceEvents, Sessions, Attempts, Grants, Tokens, Revocations, RevocationLists}
}

// Record is a document that is written once under a unique key and never
// changed.
type Record struct {
	Kind  Kind
	ID    string    // unique within its kind
	Data  []byte    // JSON
	Until time.Time // it may be forgotten after this; millisecond resolution
}

// Records keeps records. Writes are durable when they return.
type Records interface {
	// Insert writes a record; ErrExists when its ID is taken, also by one past
	// its Until. Of many concurrent calls exactly one succeeds.
	Insert(ctx context.Context, r Record) error
	// Record returns a record, past its Until or not, or ErrNotFound. The
	// caller owns the result.
	Record(ctx context.Context, kind Kind, id string) (*Record, error)
	// List returns all records of a kind, by ID.
	List(ctx context.Context, kind Kind) ([]Record, error)
	// Remove deletes a record; ErrNotFound when there is none. Of many
	// concurrent calls exactly one succeeds.
	Remove(ctx context.Context, kind Kind, id string) error
	// SweepRecords removes records whose Until was before now.
	SweepRecords(ctx context.Context, now time.Time) error
}

// Once remembers identifiers that may be used one time only.
type Once interface {
	// Once reports true to exactly one caller for each (kind, id) at least
	// until the time given, and false to all others. An error means that the
	// caller must refuse: ErrFull, or the store is out of reach.
	Once(ctx context.Context, kind, id string, until time.Time) (bool, error)
	// SweepOnce forgets identifiers whose time ended before now.
	SweepOnce(ctx context.Context, now time.Time) error
}

// Secrets keeps secrets that all replicas share.
type Secrets interface {
	// Secret stores candidate under name unless there is one already, and
	// returns the one that is stored: all callers get the same bytes.
	Secret(ctx context.Context, name string, candidate []byte) ([]byte, error)
}

// Count is how many tokens one writer signed under a kid that expire in one
// second.
type Count struct {
	KID    string
	Expiry int64 // Unix seconds
	Tokens int64
}

// Writer is a process that counts tokens. Its name is used by one process
// only, ever, so its documents have a single writer.
type Writer struct {
	Name string
	At   time.Time // its counts are complete up to here
}

// Counts keeps the counts of live tokens.
type Counts interface {
	// PutCounts replaces the writer's counts for the (kid, expiry) pairs given
	// and then notes that its counts are complete up to at.
	PutCounts(ctx context.Context, w Writer, counts []Count) error
	// EndWriter notes that a writer has ended with all its counts stored.
	EndWriter(ctx context.Context, name string) error
	// ReadCounts returns the counts that expire after now, summed over all
	// writers, and every writer that has not ended.
	ReadCounts(ctx context.Context, now time.Time) ([]Count, []Writer, error)
	// SweepCounts removes counts that expired before now, and writers last
	// heard of before dead.
	SweepCounts(ctx context.Context, now, dead time.Time) error
}

// Sighting is what was seen at one vantage point.
type Sighting struct {
	Name     string
	URL      string
	LastSeen time.Time
	MaxAge   time.Duration        // longest cache lifetime that may still be in effect there
	Since    map[string]time.Time // kid: first time seen, without a gap since
}

// Look is one look at a vantage point.
type Look struct {
	Name   string
	URL    string
	KIDs   []string
	MaxAge time.Duration
}

// Vantage keeps sightings.
type Vantage interface {
	// Look records what was seen at a time. A kid seen before keeps its first
	// time; a kid that is not in the look loses it, so its clock restarts.
	// A look at another URL than the last one restarts the clocks of all.
	Look(ctx context.Context, at time.Time, l Look) error
	// Sightings returns all, by name.
	Sightings(ctx context.Context, now time.Time) ([]Sighting, error)
	// Forget removes everything about a name; ErrNotFound when there is none.
	Forget(ctx context.Context, name string) error
}

// Store is all of the above behind one connection.
type Store interface {
	Clients
	Users
	Records
	Once
	Secrets
	Counts
	Vantage
	// Ping reports whether the store answers, and prepares it on first use.
	Ping(ctx context.Context) error
	// Close ends the connection.
	Close(ctx context.Context) error
}
