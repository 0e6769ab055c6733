package audit

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

// MaxLine bounds a record as JSON, in bytes, its newline not counted: above
// what any record can need.
const MaxLine = 256 << 10

// ErrRecord is wrapped by every error of Parse.
var ErrRecord = errors.New("not an audit record")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRecord}, args...)...)
}

// The JSON of a record, for Parse.
type (
	jsonValue struct {
		Value          string `json:"value"`
		Classification string `json:"classification"`
	}
	jsonSubject struct {
		ID          jsonValue `json:"id"`
		Username    jsonValue `json:"username"`
		DisplayName jsonValue `json:"displayName"`
		Realm       jsonValue `json:"realm"`
	}
	jsonClient struct {
		ID       jsonValue `json:"id"`
		Name     jsonValue `json:"name"`
		Provider jsonValue `json:"provider"`
	}
	jsonNetwork struct {
		RemoteAddress jsonValue `json:"remoteAddress"`
		ForwardedFor  jsonValue `json:"forwardedFor"`
		UserAgent     jsonValue `json:"userAgent"`
	}
	jsonProperty struct {
		Name           string `json:"name"`
		Value          string `json:"value"`
		Classification string `json:"classification"`
	}
	jsonRecord struct {
		Schema        string         `json:"schema"`
		EventType     string         `json:"eventType"`
		OccurredAt    string         `json:"occurredAt"`
		CorrelationID string         `json:"correlationId"`
		Outcome       Outcome        `json:"outcome"`
		Reason        jsonValue      `json:"reason"`
		Subject       jsonSubject    `json:"subject"`
		Client        jsonClient     `json:"client"`
		Tenant        jsonValue      `json:"tenant"`
		Scopes        []jsonValue    `json:"scopes"`
		Network       jsonNetwork    `json:"network"`
		Properties    []jsonProperty `json:"properties"`
	}
)

// Parse reads one line of an audit file, with or without its newline. It
// accepts exactly what AppendJSON writes of records made here, byte for byte:
// a line with a member too many, in another order, or with a Sensitive value
// that is no digest is refused. Errors wrap ErrRecord.
func Parse(line []byte) (*Record, error) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if len(line) > MaxLine {
		return nil, bad("%d bytes, more than %d", len(line), MaxLine)
	}
	var in jsonRecord
	if err := strictjson.Decode(line, &in); err != nil {
		return nil, bad("%w", err)
	}
	if in.Schema != Schema {
		return nil, bad("schema %.40q, want %q", in.Schema, Schema)
	}
	at, err := time.Parse(timeFormat, in.OccurredAt)
	if err != nil {
		return nil, bad("occurredAt is not a time as %s", timeFormat)
	}
	if !in.Outcome.valid() {
		return nil, bad("unknown outcome %.40q", string(in.Outcome))
	}
	if len(in.Scopes) > MaxScopes || len(in.Properties) > MaxProperties {
		return nil, bad("%d scopes and %d properties, more than %d and %d", len(in.Scopes), len(in.Properties), MaxScopes, MaxProperties)
	}
	rec, err := in.record(at)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(rec.AppendJSON(nil), line) {
		return nil, bad("the line is not written as records are")
	}
	return rec, nil
}

func (in *jsonRecord) record(at time.Time) (*Record, error) {
	c := converter{}
	rec := &Record{
		Type: c.text("eventType", in.EventType, MaxName), OccurredAt: at,
		CorrelationID: c.text("correlationId", in.CorrelationID, MaxName), Outcome: in.Outcome,
		Reason: c.value("reason", in.Reason, MaxText),
		Subject: Subject{
			ID: c.value("subject", in.Subject.ID, MaxText), Username: c.value("subject", in.Subject.Username, MaxText),
			DisplayName: c.value("subject", in.Subject.DisplayName, MaxText), Realm: c.value("subject", in.Subject.Realm, MaxText),
		},
		Client: Client{
			ID: c.value("client", in.Client.ID, MaxText), Name: c.value("client", in.Client.Name, MaxText),
			Provider: c.value("client", in.Client.Provider, MaxText),
		},
		Tenant: c.value("tenant", in.Tenant, MaxText),
		Network: Network{
			RemoteAddress: c.value("network", in.Network.RemoteAddress, MaxText),
			ForwardedFor:  c.value("network", in.Network.ForwardedFor, MaxText),
			UserAgent:     c.value("network", in.Network.UserAgent, MaxUserAgent),
		},
	}
	if rec.Type == "" {
		return nil, bad("no eventType")
	}
	for _, s := range in.Scopes {
		rec.Scopes = append(rec.Scopes, c.value("scopes", s, MaxScope))
	}
	for _, p := range in.Properties {
		rec.Properties = append(rec.Properties, Property{
			Name: c.text("properties", p.Name, MaxName), Value: c.value(p.Name, jsonValue{p.Value, p.Classification}, MaxText)})
	}
	return rec, c.err
}

// converter turns what was read into what Classify makes, and keeps the first
// thing that Classify would not have made.
type converter struct{ err error }

func (c *converter) fail(format string, args ...any) {
	if c.err == nil {
		c.err = bad(format, args...)
	}
}

func (c *converter) text(name, text string, limit int) string {
	if clean(text, limit) != text {
		c.fail("%s is longer than %d bytes or holds a credential", name, limit)
	}
	return text
}

func (c *converter) value(name string, in jsonValue, limit int) Value {
	if in == (jsonValue{}) {
		return Value{}
	}
	class, ok := classOf(in.Classification)
	switch {
	case !ok:
		c.fail("%.64s: unknown classification %.40q", name, in.Classification)
	case class == Sensitive && !summarised(in.Value):
		c.fail("%.64s: a Sensitive value as it is", name)
	}
	return Value{c.text(name, in.Value, limit), class}
}
