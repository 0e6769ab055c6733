package keyring

import "time"

// Action is what a transition does.
type Action string

// The actions. Init and SetPolicy are the Authority's own; the others are
// asked for by operators.
const (
	Init      Action = "init"
	SetPolicy Action = "policy"
	Stage     Action = "stage"
	Publish   Action = "publish"
	Schedule  Action = "schedule"
	Activate  Action = "activate"
	Retire    Action = "retire"
	Discard   Action = "discard"
	Withdraw  Action = "withdraw"
	Undo      Action = "undo"
	Taint     Action = "taint"
	Revoke    Action = "revoke"
)

// Paths of the lifecycle API, below the Authority's base URL.
const (
	PathKeyring      = "/internal/keyring"
	PathTransitions  = "/internal/keyring/transitions"
	PathObservations = "/internal/keyring/observations"
	PathHistory      = "/internal/keyring/history"
	PathUpstream     = "/internal/signing/rotate"

	ScopeRead   = "authority:keys.read"
	ScopeManage = "authority:keys.manage"
)

// Schemas of the documents on the wire.
const (
	SchemaReport = "stella.keyring.report/v1"
	SchemaResult = "stella.keyring.result/v1"
)

// Request asks for one transition: POST to PathTransitions.
type Request struct {
	Action Action `json:"action"`
	KID    string `json:"kid,omitempty"`    // which key; empty where only one can be meant
	Reason string `json:"reason,omitempty"` // required for force, outage, undo, taint, revoke; at most 500 bytes
	Force  bool   `json:"force,omitempty"`  // do it before its time
	Outage bool   `json:"outage,omitempty"` // taint: rather sign nothing than sign early
	// Reference names a key at an HSM or key service to take in (stage).
	Reference string `json:"reference,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"`
	// ExpectVersion, when not zero, makes the change conditional: it fails
	// with code "conflict" if the keyring has moved on.
	ExpectVersion uint64    `json:"expect_version,omitempty"`
	ActivateAt    time.Time `json:"activate_at,omitzero"` // schedule: not before this time
}

// Result answers a Request: the keyring after the change, or as it would be.
type Result struct {
	Schema   string   `json:"schema"`
	DryRun   bool     `json:"dry_run,omitempty"`
	Action   Action   `json:"action"`
	KID      string   `json:"kid,omitempty"`
	From     State    `json:"from,omitempty"`
	To       State    `json:"to,omitempty"`
	Also     []Moved  `json:"also,omitempty"`     // other keys moved by the same append
	Warnings []string `json:"warnings,omitempty"` // said though the change was made
	Report   Report   `json:"report"`
}

// Moved is one key's change of state.
type Moved struct {
	KID  string `json:"kid"`
	From State  `json:"from"`
	To   State  `json:"to"`
}

// Report is the keyring as an operator sees it: GET PathKeyring.
type Report struct {
	Schema   string    `json:"schema"`
	Issuer   string    `json:"issuer"`
	Now      time.Time `json:"now"` // the Authority's clock
	Version  uint64    `json:"version"`
	ChangeAt time.Time `json:"changed_at"`
	Replica  string    `json:"replica"` // which replica answered
	Policy   Policy    `json:"policy"`
	JWKSURI  string    `json:"jwks_uri"`
	Keys     []Key     `json:"keys"`
	Live     []Live    `json:"live"`
	LiveAsOf time.Time `json:"live_as_of,omitzero"` // every replica's counts are at least this fresh
	Vantage  []Vantage `json:"vantage"`
	Steps    []Step    `json:"steps"`
	// CannotSign says why the replica that answers signs nothing now.
	CannotSign string `json:"cannot_sign,omitempty"`
	// Unusable lists keys whose private half that replica cannot use.
	Unusable []KeyTrouble `json:"unusable,omitempty"`
	// NotDestroyed lists ended keys whose private half that replica could not
	// have destroyed yet at the provider that keeps it. It goes on trying.
	NotDestroyed []KeyTrouble `json:"not_destroyed,omitempty"`
}

// KeyTrouble is what is wrong with one private key.
type KeyTrouble struct {
	KID       string `json:"kid"`
	Reference string `json:"reference,omitempty"` // at a provider
	Error     string `json:"error"`
}

// Live counts unexpired tokens signed under one key.
type Live struct {
	KID        string    `json:"kid"`
	Tokens     int64     `json:"tokens"`
	LastExpiry time.Time `json:"last_expiry,omitzero"`
}

// Vantage is a place that verifiers fetch the JWKS from, and what was seen there.
type Vantage struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Required points come from the Authority's configuration; others were
	// reported by an operator and block activation just the same until forgotten.
	Required bool                 `json:"required"`
	LastSeen time.Time            `json:"last_seen,omitzero"`
	MaxAge   Seconds              `json:"max_age_s,omitzero"` // longest cache lifetime seen there
	Since    map[string]time.Time `json:"since"`              // kid: first time it was seen, without a gap since
}

// Observation is one look at a vantage point: POST a list to PathObservations
// as {"observations":[…]}. The Authority stamps it with its own clock.
type Observation struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	KIDs   []string `json:"kids"`
	MaxAge Seconds  `json:"max_age_s,omitzero"`
}

// Observations is the body of a POST to PathObservations.
type Observations struct {
	Observations []Observation `json:"observations"`
}

// Step is one thing left to do, in the order in which to do it.
type Step struct {
	Action    Action    `json:"action"`
	KID       string    `json:"kid,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	Due       bool      `json:"due"`  // allowed now
	Auto      bool      `json:"auto"` // advance does it once it is due
	Blocked   string    `json:"blocked,omitempty"`
	Command   string    `json:"command"` // what to type
	Why       string    `json:"why"`
}

// Problem is the error body of the lifecycle API:
// {"error":{"code","message","trace_id", …}}.
type Problem struct {
	Error ProblemDetail `json:"error"`
}

// ProblemDetail says why a request was refused. Code is one of order,
// conflict, invalid, not_found, denied, unauthenticated, unavailable, provider
// (an HSM or key service refuses the Authority; trying again does not help) and
// untrusted (it answers what cannot be true).
type ProblemDetail struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	TraceID  string    `json:"trace_id"`
	Earliest time.Time `json:"earliest,omitzero"` // order: when it would be allowed
	Next     string    `json:"next,omitempty"`    // order: what to type
	Lagging  []string  `json:"lagging,omitempty"` // order: names of vantage points that lag
	Hints    []string  `json:"hints,omitempty"`   // provider, untrusted: what to type or to set at the Authority
}
