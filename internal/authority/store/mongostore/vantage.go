package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/stella-ops/stella/internal/authority/store"
)

// Three kinds of document share the collection: "last" (one a name, replaced
// whole by the latest look), "kid" (first time seen at a URL, inserted once,
// deleted by a look without it or at another URL) and "age" (a cache lifetime and when it was last seen).
const (
	seenLast = "last"
	seenKID  = "kid"
	seenAge  = "age"
)

type seenDoc struct {
	ID   string    `bson:"_id"` // kind|name|value
	Kind string    `bson:"kind"`
	Name string    `bson:"name"`
	At   time.Time `bson:"at"`
	URL  string    `bson:"url,omitempty"`
	KID  string    `bson:"kid,omitempty"`
	Age  int64     `bson:"age,omitempty"` // nanoseconds
	// Until is when an "age" document means nothing any more.
	Until time.Time `bson:"until,omitempty"`
}

func seenID(kind, name, value string) string { return kind + "|" + name + "|" + value }

// Look implements store.Vantage.
func (s *Store) Look(ctx context.Context, at time.Time, l store.Look) error {
	// What is missing goes first: if the look is cut short, a clock has
	// restarted too early, never too late.
	kids := l.KIDs
	if kids == nil {
		kids = []string{}
	}
	gone := bson.D{{Key: "name", Value: l.Name}, {Key: "kind", Value: seenKID}, {Key: "$or", Value: bson.A{
		bson.D{{Key: "kid", Value: bson.D{{Key: "$nin", Value: kids}}}},
		bson.D{{Key: "url", Value: bson.D{{Key: "$ne", Value: l.URL}}}}, // seen elsewhere
	}}}
	if _, err := s.db.Collection(CollSeen).DeleteMany(ctx, gone); err != nil {
		return fmt.Errorf("recording vantage point %q: %w", l.Name, err)
	}
	if l.MaxAge > 0 {
		id := seenID(seenAge, l.Name, strconv.FormatInt(int64(l.MaxAge), 10))
		doc := seenDoc{ID: id, Kind: seenAge, Name: l.Name, At: at, Age: int64(l.MaxAge), Until: store.MaxAgeEnd(l.MaxAge, at)}
		if err := s.replace(ctx, CollSeen, id, doc); err != nil {
			return err
		}
	}
	over := bson.D{{Key: "name", Value: l.Name}, {Key: "kind", Value: seenAge}, {Key: "until", Value: bson.D{{Key: "$lt", Value: at}}}}
	if _, err := s.db.Collection(CollSeen).DeleteMany(ctx, over); err != nil {
		return fmt.Errorf("recording vantage point %q: %w", l.Name, err)
	}
	for _, kid := range kids {
		doc := seenDoc{ID: seenID(seenKID, l.Name, kid), Kind: seenKID, Name: l.Name, At: at, URL: l.URL, KID: kid}
		if err := s.insert(ctx, CollSeen, doc); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	id := seenID(seenLast, l.Name, "")
	return s.replace(ctx, CollSeen, id, seenDoc{ID: id, Kind: seenLast, Name: l.Name, At: at, URL: l.URL})
}

// Sightings implements store.Vantage.
func (s *Store) Sightings(ctx context.Context, now time.Time) ([]store.Sighting, error) {
	var docs []seenDoc
	if err := s.all(ctx, CollSeen, bson.D{}, &docs); err != nil {
		return nil, err
	}
	// A first time counts for the URL that was looked at last only: with two
	// looks at once at two URLs, one may leave first times of the other's.
	last := map[string]string{}
	for _, d := range docs {
		if d.Kind == seenLast {
			last[d.Name] = d.URL
		}
	}
	byName := map[string]*store.Sighting{}
	for _, d := range docs {
		g := byName[d.Name]
		if g == nil {
			g = &store.Sighting{Name: d.Name, Since: map[string]time.Time{}}
			byName[d.Name] = g
		}
		switch age := time.Duration(d.Age); d.Kind {
		case seenLast:
			g.URL, g.LastSeen = d.URL, d.At.UTC()
		case seenKID:
			if url, ok := last[d.Name]; ok && url == d.URL {
				g.Since[d.KID] = d.At.UTC()
			}
		case seenAge:
			if age > g.MaxAge && !now.After(d.Until) {
				g.MaxAge = age
			}
		}
	}
	all := make([]store.Sighting, 0, len(byName))
	for _, g := range byName {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b store.Sighting) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Forget implements store.Vantage.
func (s *Store) Forget(ctx context.Context, name string) error {
	res, err := s.db.Collection(CollSeen).DeleteMany(ctx, bson.D{{Key: "name", Value: name}})
	if err != nil {
		return fmt.Errorf("forgetting vantage point %q: %w", name, err)
	}
	if res.DeletedCount == 0 {
		return store.ErrNotFound
	}
	return nil
}
