package oauth

import (
	"fmt"
	"time"
)

// EventKind says what an Event reports.
type EventKind string

// The kinds of events.
const (
	EventAttempt EventKind = "attempt" // a request is about to be sent
	EventWait    EventKind = "wait"    // it failed in passing; the next attempt comes after Wait
	EventWarning EventKind = "warning" // worth saying, nothing failed
)

// Event is progress for whoever watches. It never carries a secret.
type Event struct {
	Kind    EventKind
	URL     string
	Attempt int           // from 1
	Of      int           // how many there will be at most
	Wait    time.Duration // EventWait: until the next attempt
	Message string        // EventWait: why; EventWarning: what
}

func (c *Client) emit(e Event) {
	if c.cfg.Events != nil {
		c.cfg.Events(e)
	}
}

// warn gives each warning text once in the life of the client.
func (c *Client) warn(url, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	c.warnMu.Lock()
	seen := c.warned[msg]
	c.warned[msg] = true
	c.warnMu.Unlock()
	if !seen {
		c.emit(Event{Kind: EventWarning, URL: url, Message: msg})
	}
}
