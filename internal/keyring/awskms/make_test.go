package awskms

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/testenv/fakekms"
)

const name = "stella-0a-1"

// enabled counts the keys that can still sign.
func (s site) enabled() int {
	n := 0
	for _, k := range s.Keys() {
		if k.State == "Enabled" {
			n++
		}
	}
	return n
}

func (s site) add(t *testing.T, k fakekms.Key) string {
	t.Helper()
	arn, err := s.AddKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

func TestMakeSaysWhatItMade(t *testing.T) {
	s := start(t)
	ref := makeKey(t, s.open(t), name)
	k := s.Keys()[0]
	if ref != "awskms:///"+k.ARN || s.Alias(name) != k.ARN || k.Tags["stella-name"] != name || !strings.Contains(k.Description, "stella") {
		t.Errorf("%s is %+v", ref, k)
	}
	if k.Spec != "ECC_NIST_P256" || k.Usage != "SIGN_VERIFY" || k.State != "Enabled" {
		t.Errorf("made %+v", k)
	}
}

func TestMakeRefusesNames(t *testing.T) {
	s := start(t)
	p := s.open(t)
	for _, bad := range []string{"", "a b", "a/b", "aws/x", "a_b", "é", "a\n", strings.Repeat("a", maxName+1)} {
		if _, err := p.Make(t.Context(), bad); fault.KindOf(err) != fault.Input {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if n := s.Calls("DescribeKey"); n != 0 {
		t.Errorf("%d calls for names that cannot be", n)
	}
	makeKey(t, p, strings.Repeat("a", maxName))
}

// An alias that an administrator moves changes what a name gives, and nothing
// for the reference.
func TestMovedAlias(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	before := openKey(t, p, ref).Public()
	other := s.add(t, fakekms.Key{})
	s.SetAlias(name, other)
	if !openKey(t, p, ref).Public().Equal(before) {
		t.Error("the reference names another key now")
	}
	if again := makeKey(t, p, name); again != "awskms:///"+other {
		t.Errorf("the name gives %s", again)
	}
}

func TestLostRace(t *testing.T) {
	s := start(t)
	p := s.open(t)
	winner := s.add(t, fakekms.Key{})
	s.Before("CreateAlias", func() { s.SetAlias(name, winner) })
	if ref := makeKey(t, p, name); ref != "awskms:///"+winner {
		t.Errorf("it gives %s, not the winner's", ref)
	}
	keys := s.Keys()
	if len(keys) != 2 || keys[1].State != "PendingDeletion" || keys[1].Days != deletionDays || keys[0].State != "Enabled" {
		t.Errorf("left behind: %+v", keys)
	}
}

// The loser's key cannot be ended: that is said once, and the name still works.
func TestLostRaceDirty(t *testing.T) {
	s := start(t)
	p := s.open(t)
	winner := s.add(t, fakekms.Key{})
	s.Before("CreateAlias", func() { s.SetAlias(name, winner) })
	s.Deny("ScheduleKeyDeletion")
	_, err := p.Make(t.Context(), name)
	loser := s.Keys()[1]
	if fault.KindOf(err) != fault.Partial || !strings.Contains(strings.Join(fault.HintsOf(err), "\n"), "--key-id "+loser.ARN) || loser.State != "Disabled" {
		t.Errorf("%v, %v, loser %s", err, fault.HintsOf(err), loser.State)
	}
	if ref := makeKey(t, p, name); ref != "awskms:///"+winner {
		t.Errorf("then it gives %s", ref)
	}
}

func TestCreateAliasFails(t *testing.T) {
	for what, c := range map[string]struct {
		failure fakekms.Failure
		want    fault.Kind
	}{
		"denied":        {fakekms.Failure{Code: "AccessDeniedException"}, fault.Denied},
		"quota":         {fakekms.Failure{Code: "LimitExceededException"}, fault.Order},
		"throttled":     {fakekms.Failure{Code: "ThrottlingException"}, fault.Transient},
		"internal":      {fakekms.Failure{Code: "KMSInternalException", Status: 500}, fault.Transient},
		"unseen":        {fakekms.Failure{Code: "NotFoundException"}, fault.Transient},
		"raced, unseen": {fakekms.Failure{Code: "AlreadyExistsException"}, fault.Transient},
	} {
		t.Run(what, func(t *testing.T) {
			s := start(t)
			p := s.open(t)
			s.Fail("CreateAlias", -1, c.failure)
			if _, err := p.Make(t.Context(), name); fault.KindOf(err) != c.want || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v: %v, want %v", err, fault.KindOf(err), c.want)
			}
			if keys := s.Keys(); len(keys) != 1 || keys[0].State != "PendingDeletion" || s.Alias(name) != "" {
				t.Errorf("left behind: %+v", keys)
			}
			s.Behave()
			makeKey(t, p, name)
			if n := s.enabled(); n != 1 {
				t.Errorf("%d keys enabled", n)
			}
		})
	}
}

// The name was given, only the answer was lost: the key is the name's.
func TestCreateAliasAnswerLost(t *testing.T) {
	s := start(t)
	p := s.open(t)
	s.Lose("CreateAlias", 1)
	ref := makeKey(t, p, name)
	if len(s.Keys()) != 1 || s.enabled() != 1 || ref != "awskms:///"+s.Alias(name) {
		t.Errorf("%s of %+v", ref, s.Keys())
	}
	openKey(t, p, ref)
}

// CreateKey is not idempotent: what may have been done is not done again.
func TestCreateKeyAnswerLost(t *testing.T) {
	s := start(t)
	p := s.open(t)
	s.Lose("CreateKey", 1)
	if _, err := p.Make(t.Context(), name); fault.KindOf(err) != fault.Transient {
		t.Errorf("%v", err)
	}
	if n := s.Calls("CreateKey"); n != 1 {
		t.Errorf("%d calls", n)
	}
	s.Throttle("CreateKey", 1) // control: this one was not begun
	makeKey(t, p, name)
	if n := s.Calls("CreateKey"); n != 3 {
		t.Errorf("%d calls", n)
	}
}

// The caller goes while the name is given: no key stays that nobody knows.
func TestCallerGoes(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Hang("CreateAlias")
	s.Before("CreateAlias", cancel)
	if _, err := p.Make(ctx, name); !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v", err)
	}
	if n := s.enabled(); n != 0 || len(s.Keys()) != 1 {
		t.Errorf("%d keys enabled of %d", n, len(s.Keys()))
	}
}

func TestMakeRefusesKeys(t *testing.T) {
	s := start(t)
	p := s.open(t)
	for what, c := range map[string]struct {
		key  fakekms.Key
		want fault.Kind
		word string
	}{
		"good":          {fakekms.Key{}, fault.None, ""},
		"hsm":           {fakekms.Key{Origin: "AWS_CLOUDHSM"}, fault.None, ""},
		"disabled":      {fakekms.Key{State: "Disabled"}, fault.Order, "disabled"},
		"pending":       {fakekms.Key{State: "PendingDeletion"}, fault.Order, "deleted"},
		"replica":       {fakekms.Key{State: "PendingReplicaDeletion"}, fault.Order, "deleted"},
		"creating":      {fakekms.Key{State: "Creating"}, fault.Transient, "not ready"},
		"import":        {fakekms.Key{State: "PendingImport"}, fault.Order, "PendingImport"},
		"p384":          {fakekms.Key{Spec: "ECC_NIST_P384"}, fault.Trust, "ECC_NIST_P384"},
		"key agreement": {fakekms.Key{Usage: "KEY_AGREEMENT"}, fault.Trust, "KEY_AGREEMENT"},
		"imported":      {fakekms.Key{Origin: "EXTERNAL"}, fault.Trust, "EXTERNAL"},
		"elsewhere":     {fakekms.Key{Origin: "EXTERNAL_KEY_STORE"}, fault.Trust, "EXTERNAL_KEY_STORE"},
	} {
		arn := s.add(t, c.key)
		s.SetAlias(name, arn)
		ref, err := p.Make(t.Context(), name)
		if fault.KindOf(err) != c.want || (err == nil) != (ref == "awskms:///"+arn) {
			t.Errorf("%s: %q, %v", what, ref, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.word) || !strings.Contains(err.Error(), arn)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := s.Calls("CreateKey"); n != 0 {
		t.Errorf("%d keys made in place of refused ones", n)
	}
}

func TestDestroy(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	arn := strings.TrimPrefix(ref, "awskms:///")
	s.SetAlias("second", arn)
	s.SetAlias("prod/operators_own", arn)
	kept := s.add(t, fakekms.Key{})
	s.SetAlias("third", kept)
	for range 2 {
		if err := p.Destroy(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if k := s.Keys()[0]; k.State != "PendingDeletion" || k.Days != 7 {
		t.Errorf("it is %+v", k)
	}
	if s.Alias(name) != "" || s.Alias("second") != "" || s.Alias("prod/operators_own") != arn || s.Alias("third") != kept {
		t.Error("other names are free than ought to be")
	}
	if _, err := p.Open(t.Context(), ref); fault.KindOf(err) != fault.Order || !strings.Contains(err.Error(), "pending deletion") {
		t.Errorf("open: %v", err)
	}
}

func TestDestroyInPart(t *testing.T) {
	for what, c := range map[string]struct {
		deny  string
		state string
		err   fault.Kind
		free  bool // the name, afterwards
	}{
		"all":           {"-", "PendingDeletion", fault.None, true},
		"not disabled":  {"DisableKey", "PendingDeletion", fault.None, true},
		"not scheduled": {"ScheduleKeyDeletion", "Disabled", fault.Denied, false},
		"not listed":    {"ListAliases", "PendingDeletion", fault.None, false},
		"not freed":     {"DeleteAlias", "PendingDeletion", fault.None, false},
	} {
		t.Run(what, func(t *testing.T) {
			s := start(t)
			p := s.open(t)
			ref := makeKey(t, p, name)
			s.Deny(c.deny)
			err := p.Destroy(t.Context(), ref)
			if fault.KindOf(err) != c.err || s.Keys()[0].State != c.state {
				t.Errorf("%v, %s", err, s.Keys()[0].State)
			}
			again, err := p.Make(t.Context(), name)
			if c.free {
				if err != nil || again == ref {
					t.Errorf("the free name gives %s, %v", again, err)
				}
			} else if fault.KindOf(err) != fault.Order || !strings.Contains(strings.Join(fault.HintsOf(err), "\n"), "delete-alias") {
				t.Errorf("the name of a destroyed key gives %s, %v", again, err)
			}
		})
	}
}

// A state that is no end is not taken for one.
func TestDestroyInAnotherState(t *testing.T) {
	s := start(t)
	p := s.open(t)
	ref := makeKey(t, p, name)
	s.Fail("ScheduleKeyDeletion", -1, fakekms.Failure{Code: "KMSInvalidStateException", Message: "it is Updating"})
	if err := p.Destroy(t.Context(), ref); fault.KindOf(err) != fault.Order {
		t.Errorf("%v", err)
	}
	s.SetState(strings.TrimPrefix(ref, "awskms:///"), "PendingDeletion") // control
	if err := p.Destroy(t.Context(), ref); err != nil {
		t.Errorf("%v", err)
	}
}
