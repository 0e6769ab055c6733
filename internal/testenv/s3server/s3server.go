// Package s3server runs a real S3 server, versitygw over a directory, in this
// process.
//
// It guarantees a loopback address, credentials that are new in each run,
// readiness when Start returns, and that nothing runs when Stop returns or the
// context that it was given ends. What is stored stays in its directory.
//
// The gateway has state for the whole process: there is one at a time, Start
// fails while another runs, and it MOVES THE WORKING DIRECTORY of the process
// to its own until Stop. What relies on relative paths runs it by StartProcess.
package s3server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"golang.org/x/sys/unix"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
	"github.com/stella-ops/stella/internal/testenv"
)

// Options shape a Server.
type Options struct {
	Dir      string // exists; objects, their attributes and users are put below it
	Addr     string // host:port; default a free port of 127.0.0.1
	Region   string // default us-east-1
	CertFile string // with KeyFile: TLS with this certificate
	KeyFile  string
	CAFile   string // that Client trusts, with TLS

	accessKey, secretKey string // of the root user; default random
}

// User is who may sign requests.
type User struct{ AccessKey, SecretKey string }

// Server is a running gateway. It is safe for concurrent use.
type Server struct {
	User            // may do everything
	Endpoint string // URL
	Region   string
	CAFile   string

	// Process is the gateway itself if StartProcess made it; else nil.
	Process *testenv.Process

	addUser func(User) error
	stop    func() error
}

const usersDir = "users"

// readyWithin bounds a start.
const readyWithin = 30 * time.Second

// Start runs a gateway in this process until ctx ends or Stop is called.
func Start(ctx context.Context, o Options) (*Server, error) {
	o.defaults()
	back, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	// The gateway takes no listener and does not tell its port, and another
	// process may take a free one before it does.
	for range 5 {
		var s *Server
		if s, err = run(ctx, o, back); err == nil {
			return s, nil
		}
		if o.Addr != "" || ctx.Err() != nil || !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, errors.Join(fmt.Errorf("starting versitygw: %w", err), os.Chdir(back))
}

func (o *Options) defaults() {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.accessKey == "" {
		o.accessKey, o.secretKey = "root"+rand.Text()[:12], rand.Text()
	}
}

// prepare makes the parts of a gateway, which ends them.
func prepare(o Options) (*posix.Posix, auth.IAMService, error) {
	data, side, users := filepath.Join(o.Dir, "data"), filepath.Join(o.Dir, "attributes"), filepath.Join(o.Dir, usersDir)
	for _, dir := range []string{data, side, users} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, err
		}
	}
	var attributes meta.MetadataStorer = meta.XattrMeta{}
	if !xattrs(data) {
		sidecar, err := meta.NewSideCar(side)
		if err != nil {
			return nil, nil, err
		}
		attributes = sidecar
	}
	iam, err := accounts(o)
	if err != nil {
		return nil, nil, err
	}
	be, err := posix.New(data, attributes, posix.PosixOpts{CopyObjectThreshold: 5 << 30})
	return be, iam, err
}

// accounts are the users, in a file that is read anew for each request.
func accounts(o Options) (*auth.IAMServiceInternal, error) {
	root := auth.Account{Access: o.accessKey, Secret: o.secretKey, Role: auth.RoleAdmin}
	return auth.NewInternal(root, filepath.Join(o.Dir, usersDir))
}

// xattrs says whether the file system of dir has user attributes.
func xattrs(dir string) bool {
	const name = "user.stella.probe"
	if unix.Setxattr(dir, name, []byte("1"), 0) != nil {
		return false
	}
	return unix.Removexattr(dir, name) == nil
}

// run is one try to start the gateway.
func run(ctx context.Context, o Options, back string) (*Server, error) {
	be, iam, err := prepare(o)
	if err != nil {
		return nil, err
	}
	addr := o.Addr
	if addr == "" {
		if addr, err = testenv.FreeAddr(); err != nil {
			return nil, err
		}
	}
	inner, cancel := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = embedgw.RunVersityGW(inner, be, &embedgw.Config{
			RootUserAccess: o.accessKey, RootUserSecret: o.secretKey, Region: o.Region, IAMService: iam,
			Ports: []string{addr}, CertFile: o.CertFile, KeyFile: o.KeyFile,
			MaxConnections: 4096, MaxRequests: 4096, MultipartMaxParts: 10_000,
			Quiet: true, KeepAlive: true,
			S3Options: []s3api.Option{s3api.WithOnListen(func() { close(ready) })},
		})
	}()
	s := o.server(addr, iam)
	s.stop = sync.OnceValue(func() error {
		cancel()
		<-ended
		return errors.Join(result, os.Chdir(back))
	})
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case <-ready:
		context.AfterFunc(ctx, func() { _ = s.Stop() }) // that the working directory is moved back
		return s, nil
	case <-ended:
		cancel()
		return nil, errors.Join(result, ctx.Err())
	case <-timer.C:
		cancel()
		<-ended
		return nil, errors.New("it does not listen")
	}
}

// server describes the gateway at addr.
func (o Options) server(addr string, iam auth.IAMService) *Server {
	s := &Server{User: User{o.accessKey, o.secretKey}, Endpoint: "http://" + addr, Region: o.Region, CAFile: o.CAFile}
	if o.CertFile != "" {
		s.Endpoint = "https://" + addr
	}
	s.addUser = func(u User) error {
		return iam.CreateAccount(auth.Account{Access: u.AccessKey, Secret: u.SecretKey, Role: auth.RoleUser})
	}
	return s
}

// Stop ends the server and waits for its end. It may be called twice.
func (s *Server) Stop() error { return s.stop() }

// AddUser makes a user who may do nothing with the buckets of others.
func (s *Server) AddUser() (User, error) {
	u := User{"user" + rand.Text()[:12], rand.Text()}
	return u, s.addUser(u)
}

// Client opens s3://BUCKET[/PREFIX] as the root user.
func (s *Server) Client(ctx context.Context, place string) (*s3.Store, error) {
	return s.ClientAs(ctx, s.User, place)
}

// ClientAs opens s3://BUCKET[/PREFIX] as u.
func (s *Server) ClientAs(ctx context.Context, u User, place string) (*s3.Store, error) {
	p, err := objstore.Parse(place)
	if err != nil {
		return nil, err
	}
	return s3.Open(ctx, p, s3.Options{
		Region: s.Region, Endpoint: s.Endpoint, PathStyle: true, CAFile: s.CAFile,
		Credentials: s3.Static(u.AccessKey, u.SecretKey, ""),
	})
}

// CreateBucket makes a bucket of the root user, if it is missing.
func (s *Server) CreateBucket(ctx context.Context, name string) error {
	store, err := s.Client(ctx, "s3://"+name)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.CreateBucket(ctx)
}
