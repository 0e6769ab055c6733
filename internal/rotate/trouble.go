package rotate

import (
	"context"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/fault"
)

// remindEvery is how often a place that stays unreachable is mentioned again.
const remindEvery = time.Minute

// trouble is a vantage point that could not be looked at.
type trouble struct {
	kind fault.Kind
	told time.Time
}

func (d *Driver) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// cannotLook warns of a place: when it begins, when the kind of trouble
// changes, and now and then while it lasts. The end of ctx is no trouble of
// the place.
func (d *Driver) cannotLook(ctx context.Context, s Sight) {
	if ctx.Err() != nil {
		return
	}
	kind, now := fault.KindOf(s.Err), d.now()
	was, known := d.trouble[s.Name]
	text := "cannot look at vantage point %q: %v"
	switch {
	case !known || was.kind != kind:
	case now.Sub(was.told) < remindEvery:
		return
	default:
		text = "still unreachable: vantage point %q: %v"
	}
	if d.trouble == nil {
		d.trouble = map[string]trouble{}
	}
	d.trouble[s.Name] = trouble{kind, now}
	d.tell(Event{Type: Warning, Text: fmt.Sprintf(text, s.Name, s.Err)})
}

func (d *Driver) looked(s Sight) {
	if _, was := d.trouble[s.Name]; was {
		delete(d.trouble, s.Name)
		d.tell(Event{Type: Warning, Text: fmt.Sprintf("vantage point %q answers again", s.Name)})
	}
	d.tell(Event{Type: Looked, Text: fmt.Sprintf("%s serves %d keys", s.Name, len(s.Set.Keys))})
}
