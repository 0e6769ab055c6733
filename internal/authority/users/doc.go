// Package users is the people who can log in: their passwords, the lockout
// that slows guessing, and the API that keeps them.
//
// It guarantees that an unknown name, a wrong password and a disabled user
// are one refusal at one cost; that of any number of attempts at once, over
// any number of replicas, no more than the lockout allows reach the password
// in one window; that hashes under way are bounded in number and memory; that
// a password is stored as argon2id only and appears in no answer, error or
// log; that two changes of one user never mix; and that nobody is let in
// while the store cannot answer.
package users

import (
	"errors"
	"fmt"
	"time"
)

// SubjectPrefix begins the subject of every person.
const SubjectPrefix = "usr_"

// Errors of Authenticate. Anything else means that the store could not
// answer: refuse, the attempt may be made again.
var (
	// ErrCredentials does not say which of the two is wrong, nor whether there
	// is such a user.
	ErrCredentials = errors.New("the user name or the password is wrong")
	// ErrBusy means that too many passwords are being checked; nothing was
	// counted.
	ErrBusy = errors.New("too many people are logging in at this moment")
	// ErrGone means that a person of before is no more, or may no more.
	ErrGone = errors.New("the user is gone or disabled")
)

// LockedOut is the refusal of a name, known or not, that has failed too often.
type LockedOut struct {
	RetryAfter time.Duration // more than zero
}

// Error implements error; the text is meant for the person.
func (l *LockedOut) Error() string {
	minutes := int64((l.RetryAfter + time.Minute - 1) / time.Minute)
	if minutes <= 1 {
		return "too many failed attempts; try again in 1 minute"
	}
	return fmt.Sprintf("too many failed attempts; try again in %d minutes", minutes)
}

// Person is who has logged in.
type Person struct {
	Name        string
	Subject     string // opaque, never used again for another person
	DisplayName string
	Scopes      []string // sorted; what the person may hand on to a client
	Roles       []string // sorted
	Tenant      string   // default tenant; may be empty
	Tenants     []string // sorted; includes Tenant
	AuthTime    time.Time
}
