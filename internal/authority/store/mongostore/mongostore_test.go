package mongostore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/authority/store"
	"github.com/stella-ops/stella/internal/authority/store/mongostore"
	"github.com/stella-ops/stella/internal/authority/store/storetest"
	"github.com/stella-ops/stella/internal/testenv"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		uri, database := testenv.Mongo(t)
		return func() store.Store {
			s, err := mongostore.Open(mongostore.Options{URI: uri, Database: database, Timeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close(t.Context()) })
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

func TestOpenRefusesNonsense(t *testing.T) {
	const text = "mongodb://user:hunter2@:::"
	_, err := mongostore.Open(mongostore.Options{URI: text, Database: "d", Timeout: time.Second})
	if err == nil {
		t.Fatal("accepted")
	}
	if got := err.Error(); len(got) == 0 || strings.Contains(got, "hunter2") {
		t.Fatalf("error repeats the connection string: %q", got)
	}
}
