// Package mongostore is a store.Store in a MongoDB database, through the
// official driver.
//
// It guarantees what the interfaces of package store say across any number of
// processes on one database, with majority write concern, using only unique
// inserts, deletes, and whole replacements by a single writer: it is exact
// also on servers whose updates are not atomic. It needs no transactions, no
// TTL index and no replica set. Every operation ends within the command
// timeout.
package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/stella-ops/stella/internal/authority/store"
)

// Collections of the database. Names begin with "authority_" like upstream's.
const (
	CollClients = "authority_clients"
	CollUsers   = "authority_users"
	CollOnce    = "authority_once"
	CollSecrets = "authority_secrets"
	CollLive    = "authority_live_counts"
	CollWriters = "authority_live_writers"
	CollSeen    = "authority_vantage"
)

// collRecords is the collection of a kind of records.
func collRecords(kind store.Kind) string { return "authority_" + string(kind) }

// Options of a Store.
type Options struct {
	URI      string        // connection string; may hold credentials, never logged
	Database string        // database name
	Timeout  time.Duration // of each operation, server selection included
	PoolSize uint64        // connections to each server at most; 0: the driver's 100
	AppName  string        // shown in the server's logs
}

// Store is a MongoDB store. Safe for concurrent use.
type Store struct {
	client *mongo.Client
	db     *mongo.Database

	mu       sync.Mutex
	prepared bool
}

var _ store.Store = (*Store)(nil)

// Open makes a Store. It does not wait for the server: Ping tells whether it
// is there. An error means that the options are unusable; it does not repeat
// the connection string.
func Open(o Options) (*Store, error) {
	opts := options.Client().ApplyURI(o.URI).
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()). // whatever the string says: a deleted client must be gone
		SetTimeout(o.Timeout).
		SetServerSelectionTimeout(min(o.Timeout, 5*time.Second)).
		SetConnectTimeout(min(o.Timeout, 5*time.Second)).
		SetAppName(o.AppName)
	if o.PoolSize > 0 {
		opts.SetMaxPoolSize(o.PoolSize)
	}
	if err := opts.Validate(); err != nil {
		return nil, errors.New("the connection string is not one that the MongoDB driver understands (text withheld)")
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, errors.New("the MongoDB driver refuses the connection options (text withheld)")
	}
	return &Store{client: client, db: client.Database(o.Database)}, nil
}

// Ping implements store.Store. The first success makes the indexes.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err(); err != nil {
		return fmt.Errorf("pinging the database: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prepared {
		return nil
	}
	type index struct{ coll, field string }
	indexes := []index{{CollOnce, "until"}, {CollLive, "expiry"}, {CollSeen, "name"}}
	for _, kind := range store.Kinds() {
		indexes = append(indexes, index{collRecords(kind), "until"})
	}
	for _, ix := range indexes {
		model := mongo.IndexModel{Keys: bson.D{{Key: ix.field, Value: 1}}}
		if _, err := s.db.Collection(ix.coll).Indexes().CreateOne(ctx, model); err != nil {
			return fmt.Errorf("making an index of %q: %w", ix.coll, err)
		}
	}
	s.prepared = true
	return nil
}

// Close implements store.Store.
func (s *Store) Close(ctx context.Context) error { return s.client.Disconnect(ctx) }

// insert adds a document under a unique _id; ErrExists when that is taken.
func (s *Store) insert(ctx context.Context, coll string, doc any) error {
	_, err := s.db.Collection(coll).InsertOne(ctx, doc)
	switch {
	case err == nil:
		return nil
	case mongo.IsDuplicateKeyError(err):
		return store.ErrExists
	}
	return fmt.Errorf("inserting into %q: %w", coll, err)
}

func byID(id string) bson.D { return bson.D{{Key: "_id", Value: id}} }

// replaceExisting replaces the document with that _id whole; ErrNotFound when
// there is none.
func (s *Store) replaceExisting(ctx context.Context, coll, id string, doc any) error {
	res, err := s.db.Collection(coll).ReplaceOne(ctx, byID(id), doc)
	if err != nil {
		return fmt.Errorf("replacing %q in %q: %w", id, coll, err)
	}
	if res.MatchedCount == 0 {
		return store.ErrNotFound
	}
	return nil
}

// remove deletes the document with that _id; ErrNotFound when there is none.
func (s *Store) remove(ctx context.Context, coll, id string) error {
	res, err := s.db.Collection(coll).DeleteOne(ctx, byID(id))
	if err != nil {
		return fmt.Errorf("deleting %q from %q: %w", id, coll, err)
	}
	if res.DeletedCount == 0 {
		return store.ErrNotFound
	}
	return nil
}
