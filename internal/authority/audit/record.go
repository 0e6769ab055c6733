package audit

import (
	"net/http"
	"slices"
	"time"
)

// Schema names the format of a record; docs/formats/audit-record.md is the
// specification.
const Schema = "stella.audit/v1"

// Outcome is how what was asked for ended.
type Outcome string

// The outcomes.
const (
	Success     Outcome = "Success"
	Failure     Outcome = "Failure"     // refused: the caller's credentials, rights or request
	LockedOut   Outcome = "LockedOut"   // refused: too many failures before
	RateLimited Outcome = "RateLimited" // refused: too many requests
	Error       Outcome = "Error"       // not decided: a fault of this side
)

// OutcomeOf is the outcome of a request that was answered with an HTTP status
// of 400 or more.
func OutcomeOf(status int) Outcome {
	switch {
	case status == http.StatusTooManyRequests:
		return RateLimited
	case status >= http.StatusInternalServerError:
		return Error
	}
	return Failure
}

func (o Outcome) valid() bool {
	return slices.Contains([]Outcome{Success, Failure, LockedOut, RateLimited, Error}, o)
}

// Record is one audit record (upstream's AuthEventRecord). It is written once
// and not changed afterwards.
type Record struct {
	Type          string // dotted, see the Type constants
	OccurredAt    time.Time
	CorrelationID string // the request id of answers and the access log
	Outcome       Outcome
	Reason        Value // a code, or a short sentence
	Subject       Subject
	Client        Client
	Tenant        Value
	Scopes        []Value // sorted, each once
	Network       Network
	Properties    []Property // in the order they were added
}

// Subject is the person that it is about; all Personal.
type Subject struct{ ID, Username, DisplayName, Realm Value }

// Client is the OAuth client, as it called itself: whether that was proved is
// for the outcome to say.
type Client struct{ ID, Name, Provider Value }

// Network is where the request came from; all Personal. RemoteAddress is the
// TCP peer, or what trusted proxies say; ForwardedFor is what anybody says.
type Network struct{ RemoteAddress, ForwardedFor, UserAgent Value }

// Property is one fact more, under a name from the code.
type Property struct {
	Name  string
	Value Value
}

func scopeValues(scopes []string) []Value {
	sorted := slices.Clone(scopes)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	if len(sorted) > MaxScopes {
		sorted = append(sorted[:MaxScopes-1:MaxScopes-1], mark)
	}
	out := make([]Value, 0, len(sorted))
	for _, s := range sorted {
		if v := classify(s, None, MaxScope); v.text != "" {
			out = append(out, v)
		}
	}
	return out
}
