package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// MongoURIEnv names the variable that makes tests use a real MongoDB server
// instead of the embedded one.
const MongoURIEnv = "STELLA_TEST_MONGO_URI"

// MongoServer is an embedded server that speaks the MongoDB wire protocol
// (FerretDB on SQLite). Its updates are not atomic; inserts under a unique key
// and deletes are.
type MongoServer struct {
	addr    string
	stop    context.CancelFunc
	done    chan struct{}
	tempDir string // removed by Stop
}

// making lets servers be made one after the other.
var making sync.Mutex

// StartMongo starts a server on addr ("127.0.0.1:0" takes any free port). Its
// data lives in dir, which must exist, or in a directory of its own that Stop
// removes when dir is empty. (FerretDB's in-memory mode is not used: an update
// there can wait for its own lock until the client gives up.)
func StartMongo(addr, dir string) (_ *MongoServer, err error) {
	m := &MongoServer{done: make(chan struct{})}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "stella-mongo-"); err != nil {
			return nil, fmt.Errorf("starting the embedded database: %w", err)
		}
		m.tempDir = dir
	}
	at := "file:" + strings.TrimSuffix(dir, "/") + "/"
	making.Lock() // New sets variables that all servers of a process share
	f, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: addr},
		Handler:   "sqlite",
		SQLiteURL: at,
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	making.Unlock()
	if err != nil {
		return nil, fmt.Errorf("starting the embedded database: %w", err)
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	go func() {
		defer close(m.done)
		_ = f.Run(ctx) // ends with ctx; a failure shows as refused connections
	}()
	u, err := url.Parse(f.MongoDBURI())
	if err != nil {
		m.Stop()
		return nil, fmt.Errorf("starting the embedded database: %w", err)
	}
	m.addr = u.Host
	return m, m.wait()
}

// wait returns once the server accepts connections.
func (m *MongoServer) wait() error {
	for range 200 {
		conn, err := net.DialTimeout("tcp", m.addr, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-m.done:
			return errors.New("starting the embedded database: it ended at once")
		case <-time.After(10 * time.Millisecond): // no readiness signal in the embedded package
		}
	}
	m.Stop()
	return errors.New("starting the embedded database: it does not accept connections")
}

// Addr returns host:port of the server.
func (m *MongoServer) Addr() string { return m.addr }

// URI returns the connection string of the server.
func (m *MongoServer) URI() string { return "mongodb://" + m.addr + "/" }

// Stop ends the server and waits for its end. It may be called twice.
func (m *MongoServer) Stop() {
	m.stop()
	<-m.done
	if m.tempDir != "" {
		_ = os.RemoveAll(m.tempDir) // a leftover in the temp directory is harmless
	}
}

// Mongo returns the connection string of a server for this test, embedded
// unless MongoURIEnv names a real one, and a database name that no other test
// uses.
func Mongo(t testing.TB) (uri, database string) {
	t.Helper()
	database = "stella_test_" + strings.ToLower(rand.Text()[:12])
	if uri := os.Getenv(MongoURIEnv); uri != "" {
		return uri, database
	}
	m, err := StartMongo("127.0.0.1:0", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	return m.URI(), database
}
