package users

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAuthenticate(t *testing.T) {
	s := newSite(t, nil)
	doc := s.user("ann")
	for _, typed := range []string{"ann", " Ann\t", "ANN"} {
		p, err := s.Authenticate(t.Context(), typed, right, tests)
		want := &Person{
			Name: "ann", Subject: doc.Subject, Scopes: []string{"a", "b"}, Tenant: "t", Tenants: []string{"t"}, AuthTime: s.clock,
		}
		if err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%q: %+v %v", typed, p, err)
		}
	}
	if n := len(s.records()); n != 0 {
		t.Errorf("%d records stay after success", n)
	}
	if err := s.try("ann", wrong); !errors.Is(err, ErrCredentials) {
		t.Errorf("wrong password: %v", err)
	}
}

// The real argon2id: a string of the reference implementation, and one of
// ours.
func TestArgon2id(t *testing.T) {
	d := New(Options{})
	h := DefaultPolicy().Hashing
	const phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if good, _ := d.matches("password", phc, h); !good {
		t.Error("the reference hash does not match")
	}
	if good, _ := d.matches("passwore", phc, h); good {
		t.Error("another password matches")
	}
	if err := h.Check(); err != nil {
		t.Error(err)
	}
	ours := d.seal(right, h)
	if good, hashed := d.matches(right, ours, h); !good || hashed.Hashing != h {
		t.Errorf("our own hash %s does not match", ours)
	}
	if again := d.seal(right, h); again == ours {
		t.Error("two hashes of one password are the same")
	}
}

// A password is the same on every keyboard (RFC 8265): composed or not, with
// any space. Its letters' case counts.
func TestPasswordForms(t *testing.T) {
	s := newSite(t, nil)
	if _, _, err := s.Put(t.Context(), &Document{Username: "ann", Password: "caf\u00e9 au lait", Tenant: "t"}, any1); err != nil {
		t.Fatal(err)
	}
	for password, good := range map[string]bool{
		"caf\u00e9 au lait": true, "cafe\u0301 au lait": true, "caf\u00e9\u3000au\u00a0lait": true,
		"Caf\u00e9 au lait": false, "cafe au lait": false, "caf\u00e9 au lait ": false,
	} {
		if err := s.try("ann", password); (err == nil) != good {
			t.Errorf("%q: %v", password, err)
		}
	}
}

// enemies are attempts that fail for reasons nobody may tell apart.
func enemies(s *site) map[string]func() error {
	s.user("wrong")
	s.user("disabled")
	s.user("corrupt")
	s.user("huge")
	s.user("long")
	s.user("control")
	ctx := s.t.Context()
	bend := func(name, phc string) {
		u, err := s.store.Store.User(ctx, name)
		if err != nil {
			s.t.Fatal(err)
		}
		u.PasswordHash = phc
		if err := s.store.Store.ReplaceUser(ctx, u); err != nil {
			s.t.Fatal(err)
		}
	}
	bend("corrupt", "$argon2id$v=19$m=x")
	bend("huge", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	for _, d := range []*Document{
		{Username: "disabled", Tenant: "t", Disabled: true},
		{Username: "nopassword", Tenant: "t"}, {Username: "none", Tenant: "t"},
	} {
		if _, _, err := s.Put(ctx, d, any1); err != nil {
			s.t.Fatal(err)
		}
	}
	try := func(name, password string) func() error { return func() error { return s.try(name, password) } }
	return map[string]func() error{
		"wrong password": try("wrong", wrong), "unknown user": try("nobody", right), "unknown and empty": try("", ""),
		"no name at all": try("no\x00such\u202ename", right), "disabled, right password": try("disabled", right),
		"user without password": try("nopassword", right), "user without password, none given": try("none", ""),
		"corrupt hash": try("corrupt", right), "hash that wants 4 TiB": try("huge", right),
		"longer than any": try("long", strings.Repeat("x", 1<<16)), "control characters": try("control", right+"\x01"),
	}
}

// O20: the answers, the work behind them and the lockout are the same for all
// who may not log in; the control may.
func TestNoEnumeration(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	for name, attempt := range enemies(s) {
		t.Run(name, func(t *testing.T) {
			for i := 1; i <= 8; i++ {
				s.store.reset(0, false)
				s.hashes.Store(0)
				s.seen = nil
				err := attempt()
				hashes, work := s.hashes.Load(), strings.Join(s.store.reset(0, false), " ")
				slots := strings.Repeat(" Insert", min(i, 5))
				switch {
				case i < 5 && (!errors.Is(err, ErrCredentials) || hashes != 1 || s.seen[0] != Refused || work != "Record Record User"+slots+" User"):
					t.Errorf("attempt %d: %v after %d hashes, %v, %s", i, err, hashes, s.seen, work)
				case i == 5 && (hashes != 1 || s.seen[0] != Locked || work != "Record Record User"+slots+" User"):
					t.Errorf("last attempt: %v after %d hashes, %v, %s", err, hashes, s.seen, work)
				case i > 5 && (hashes != 0 || s.seen[0] != Locked || work != "Record User"):
					t.Errorf("attempt %d: %v after %d hashes, %v, %s", i, err, hashes, s.seen, work)
				}
				if i >= 5 {
					s.wantLocked(err, 15*time.Minute)
					if err.Error() != "too many failed attempts; try again in 15 minutes" {
						t.Error(err)
					}
				}
			}
		})
	}
	if err := s.try("ann", right); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestLogsHoldNoSecret(t *testing.T) {
	s := newSite(t, nil)
	s.user("ann")
	s.spend("ann", 4)
	s.wantLocked(s.try("ann", wrong), 15*time.Minute)
	out := s.logged.String()
	if strings.Contains(out, wrong) || strings.Contains(out, `"ann"`) {
		t.Errorf("it says too much: %s", out)
	}
	for _, want := range []string{
		`"msg":"Password grant verification failed for user {Username}."`, `"msg":"Plugin {PluginName} denied access for user {Username} due to lockout"`,
		`"PluginName":"standard"`, `"RemoteIp":"192.0.2.7"`, `"Username":"sha256:`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the log lacks %s: %s", want, out)
		}
	}
}

// With one hash under way the next waits, and not for ever; nothing is
// counted for it. The control finds a free place.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.user("ann")
		s.gate = make(gate, 1)
		hashing, end := make(chan bool), make(chan bool)
		s.onHash = func() { hashing <- true; <-end }
		first := make(chan error)
		go func() { first <- s.try("ann", right) }()
		<-hashing
		began := time.Now()
		if err := s.try("bob", right); !errors.Is(err, ErrBusy) || time.Since(began) != maxWait {
			t.Errorf("second: %v after %v", err, time.Since(began))
		}
		if n := len(s.records()); n != 1 {
			t.Errorf("%d slots are taken, want that of the first", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Authenticate(ctx, "bob", right, tests); !errors.Is(err, context.Canceled) {
			t.Errorf("caller gone: %v", err)
		}
		end <- true
		if err := <-first; err != nil {
			t.Errorf("first: %v", err)
		}
		s.onHash = nil
		if err := s.try("bob", right); !errors.Is(err, ErrCredentials) {
			t.Errorf("control: %v", err)
		}
	})
}

// Whoever changes a user while a login of theirs is under way wins.
func TestChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*site) error{
		"disabled": func(s *site) error {
			_, _, err := s.Put(t.Context(), &Document{Username: "ann", Tenant: "t", Disabled: true}, any1)
			return err
		},
		"password": func(s *site) error { _, err := s.SetPassword(t.Context(), "ann", "another good password"); return err },
		"deleted":  func(s *site) error { _, err := s.Delete(t.Context(), "ann"); return err },
		"replaced by another": func(s *site) error {
			_, err := s.Delete(t.Context(), "ann")
			s.user("ann")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			s.user("ann")
			s.onHash = func() {
				s.onHash = nil
				if err := change(s); err != nil {
					t.Error(err)
				}
			}
			if err := s.try("ann", right); !errors.Is(err, ErrCredentials) {
				t.Errorf("it let them in: %v", err)
			}
		})
	}
	s := newSite(t, nil)
	s.user("ann")
	s.onHash = func() { s.onHash = nil; s.user("bob") }
	if err := s.try("ann", right); err != nil {
		t.Errorf("control: another user changed: %v", err)
	}
}

func TestCurrent(t *testing.T) {
	s := newSite(t, nil)
	doc := s.user("ann")
	if p, err := s.Current(t.Context(), "ann", doc.Subject); err != nil || p.Subject != doc.Subject {
		t.Fatalf("control: %+v %v", p, err)
	}
	if _, err := s.Current(t.Context(), "ann", "usr_other"); !errors.Is(err, ErrGone) {
		t.Errorf("another subject: %v", err)
	}
	s.store.reset(1, false)
	if _, err := s.Current(t.Context(), "ann", doc.Subject); !errors.Is(err, errStore) {
		t.Errorf("no database: %v", err)
	}
	if _, _, err := s.Put(t.Context(), &Document{Username: "ann", Tenant: "t", Disabled: true}, any1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Current(t.Context(), "ann", doc.Subject); !errors.Is(err, ErrGone) {
		t.Errorf("disabled: %v", err)
	}
}
