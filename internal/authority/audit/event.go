package audit

import (
	"context"
	"sync"
)

// Event collects what the record of one request will say. Every method may be
// called on nil and then does nothing, may be called from several goroutines,
// and does nothing once the record is written.
type Event struct {
	mu    sync.Mutex
	rec   Record
	set   bool
	ended bool
}

type eventKey struct{}

// Of returns the event of the request that ctx belongs to, or nil outside
// Middleware.
func Of(ctx context.Context) *Event {
	e, _ := ctx.Value(eventKey{}).(*Event)
	return e
}

// change runs f under the lock unless the record is written.
func (e *Event) change(f func(*Record)) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended {
		f(&e.rec)
	}
}

// Set says that this request is worth a record, and of which type. The last
// call counts: a request has one record.
func (e *Event) Set(typ string) {
	e.change(func(r *Record) { r.Type, e.set = clean(typ, MaxName), true })
}

// Outcome says how it ended, and why: a code or a short sentence, "" after
// success. The last call counts. Without one the record says Error.
func (e *Event) Outcome(o Outcome, reason string) {
	e.change(func(r *Record) { r.Outcome, r.Reason = o, Classify(reason, None) })
}

// Subject names the person; empty strings are left out of the record.
func (e *Event) Subject(id, username, display, realm string) {
	e.change(func(r *Record) {
		r.Subject = Subject{Classify(id, Personal), Classify(username, Personal), Classify(display, Personal), Classify(realm, Personal)}
	})
}

// Client names the OAuth client.
func (e *Event) Client(id, name string) {
	e.change(func(r *Record) { r.Client.ID, r.Client.Name = Classify(id, None), Classify(name, None) })
}

// Provider names what keeps the client or the person: an identity provider.
func (e *Event) Provider(name string) {
	e.change(func(r *Record) { r.Client.Provider = Classify(name, None) })
}

// Tenant names the tenant.
func (e *Event) Tenant(id string) {
	e.change(func(r *Record) { r.Tenant = Classify(id, None) })
}

// Scopes says what was granted, or asked for where nothing was granted. The
// record has them sorted, each once, the first MaxScopes of them.
func (e *Event) Scopes(scopes []string) {
	e.change(func(r *Record) { r.Scopes = scopeValues(scopes) })
}

// Prop adds a property. A second value of the same name replaces the first;
// above MaxProperties a new one is dropped. One with an empty value is left out.
func (e *Event) Prop(name, value string, class Class) {
	e.change(func(r *Record) {
		name := clean(name, MaxName)
		v := Classify(value, class)
		for i := range r.Properties {
			if r.Properties[i].Name == name {
				r.Properties[i].Value = v
				return
			}
		}
		if r.Properties == nil {
			r.Properties = make([]Property, 0, 8) // about as many as a record has
		}
		if len(r.Properties) < MaxProperties {
			r.Properties = append(r.Properties, Property{name, v})
		}
	})
}
