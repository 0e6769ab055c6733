package oauth

import (
	"net/http"
	"sync"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// clockWatch remembers how far this machine's clock is from the server's.
type clockWatch struct {
	mu     sync.Mutex
	offset time.Duration // server minus local
	known  bool
}

// ClockOffset returns the server's clock minus the local one, as the last
// answer showed it; false before the first answer. A Date header has a
// resolution of one second (RFC 9110 section 6.6.1).
func (c *Client) ClockOffset() (time.Duration, bool) {
	c.clock.mu.Lock()
	defer c.clock.mu.Unlock()
	return c.clock.offset, c.clock.known
}

// watchClock compares the Date header of an answer that was asked for at sent
// and came at received.
func (c *Client) watchClock(url string, h http.Header, sent, received time.Time) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	if age := h.Get("Age"); age != "" && age != "0" {
		return // answered by a cache: its Date is old by design
	}
	// The server wrote the header somewhere between sent and received, and cut
	// off the fraction of its second.
	offset := time.Duration(0)
	switch {
	case date.Before(sent.Truncate(time.Second)):
		offset = date.Sub(sent)
	case date.After(received):
		offset = date.Sub(received)
	}
	c.clock.mu.Lock()
	c.clock.offset, c.clock.known = offset, true
	c.clock.mu.Unlock()
	if c.clockOff(offset) {
		c.warn(url, "%s", c.clockText(offset))
	}
}

func (c *Client) clockOff(offset time.Duration) bool {
	return offset.Abs() > c.cfg.ClockTolerance
}

func (c *Client) clockText(offset time.Duration) string {
	side := "behind"
	if offset < 0 {
		side = "ahead of"
	}
	return "this machine's clock is " + offset.Abs().Round(time.Second).String() + " " + side + " the Authority's"
}

// clockHint adds the clock to the hints of a refusal that a wrong clock can
// cause.
func (c *Client) clockHint(e *fault.Error) *fault.Error {
	if offset, ok := c.ClockOffset(); ok && c.clockOff(offset) {
		e.Hint("%s; that alone makes proofs and assertions invalid: timedatectl status", c.clockText(offset))
	}
	return e
}
