package hashivault_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

func TestAdopt(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	p256 := map[string]any{"type": "ecdsa-p256"}
	with := func(name string) map[string]any { return map[string]any{"type": "ecdsa-p256", name: true} }
	for name, c := range map[string]struct {
		key     map[string]any
		flag    string
		config  map[string]any // of the key once rotated
		version string
		kind    fault.Kind
		says    string
	}{
		"plain":        {key: p256, version: "1"},
		"rotated":      {key: p256, config: map[string]any{}, version: "2"},
		"former":       {key: p256, config: map[string]any{}, version: "1"},
		"p384":         {key: map[string]any{"type": "ecdsa-p384"}, version: "1", kind: fault.Input, says: "of type ecdsa-p384"},
		"symmetric":    {version: "1", kind: fault.Input, says: "of type aes256-gcm96"},
		"exportable":   {key: with("exportable"), version: "1", kind: fault.Input, says: "may be exported"},
		"backup":       {key: with("allow_plaintext_backup"), version: "1", kind: fault.Input, says: "backed up"},
		"imported":     {key: p256, flag: "imported", version: "1", kind: fault.Input, says: "was imported"},
		"restored":     {key: p256, flag: "restored", version: "1", kind: fault.Input, says: "was restored"},
		"soft-deleted": {key: p256, flag: "soft_deleted", version: "1", kind: fault.Config, says: "soft-deleted"},
		"may not sign": {key: p256, config: map[string]any{"min_encryption_version": 2}, version: "1", kind: fault.Config, says: "may not sign"},
		"not yet":      {key: p256, version: "2", kind: fault.Unclassified, says: "version 2"},
	} {
		k := strings.ReplaceAll(name, " ", "-")
		admin(t, s, "POST", "keys/"+k, c.key)
		if c.flag != "" && !s.Flag(k, c.flag) {
			t.Fatalf("no flag %s", c.flag)
		}
		if c.config != nil {
			admin(t, s, "POST", "keys/"+k+"/rotate", nil)
			admin(t, s, "POST", "keys/"+k+"/config", c.config)
		}
		ref := "hashivault://" + k + "?version=" + c.version
		pinned, err := p.Adopt(t.Context(), ref)
		wantKind(t, name, err, c.kind)
		if c.kind == fault.None {
			if !strings.HasPrefix(pinned, ref+"&sha256=") || !verifies(t, opened(t, p, pinned)) {
				t.Errorf("%s: adopted as %s", name, pinned)
			}
			continue
		}
		if pinned != "" || !strings.Contains(err.Error(), c.says) || errors.Is(err, fs.ErrNotExist) != (name == "not yet") {
			t.Errorf("%s: %q, %v", name, pinned, err)
		}
	}
}

// A hash that an operator gives is held to.
func TestAdoptAnotherKey(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	other := strings.Replace(made(t, p, "k2"), "k2", "k", 1)
	if pinned, err := p.Adopt(t.Context(), ref); err != nil || pinned != ref { // control
		t.Errorf("%s: %q, %v", ref, pinned, err)
	}
	if pinned, err := p.Adopt(t.Context(), other); pinned != "" || fault.KindOf(err) != fault.Trust || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %q, %v", other, pinned, err)
	}
	for what, c := range map[string]struct {
		begin func()
		kind  fault.Kind
	}{
		"sealed": {func() { s.Seal(true) }, fault.Transient},
		"denied": {func() { s.Seal(false); s.Deny("transit/keys/") }, fault.Denied},
	} {
		c.begin()
		_, err := p.Adopt(t.Context(), ref)
		wantKind(t, what, err, c.kind)
		s.Seal(false)
		s.Deny("")
	}
}

// Deleting a key takes all its versions, so one that has others stays.
func TestDestroyOneVersion(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(config, trim func(string, int))
		version string
		hint    string
		ok      bool
	}{
		"the first of two":   {func(_, _ func(string, int)) {}, "1", "vault write transit/keys/k/trim min_available_version=2", false},
		"the second of two":  {func(_, _ func(string, int)) {}, "2", "vault write transit/keys/k/trim min_available_version=2", false},
		"the other archived": {func(config, _ func(string, int)) { config("min_decryption_version", 2) }, "2", "min_decryption_version=2", false},
		"the other trimmed": {func(config, trim func(string, int)) {
			config("min_encryption_version", 2)
			config("min_decryption_version", 2)
			trim("min_available_version", 2)
		}, "2", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s, o := start(t)
			p := open(t, o)
			first := opened(t, p, made(t, p, "k"))
			admin(t, s, "POST", "keys/k/rotate", nil)
			second := opened(t, p, "hashivault://k?version=2")
			set := func(path string) func(string, int) {
				return func(field string, n int) { admin(t, s, "POST", "keys/k/"+path, map[string]any{field: n}) }
			}
			c.change(set("config"), set("trim"))
			ref, err := p.Adopt(t.Context(), "hashivault://k?version="+c.version)
			if err != nil {
				t.Fatal(err)
			}
			err = p.Destroy(t.Context(), ref)
			if c.ok {
				if _, gone := p.Open(t.Context(), ref); err != nil || !errors.Is(gone, fs.ErrNotExist) {
					t.Errorf("%v, then %v", err, gone)
				}
				return
			}
			wantKind(t, name, err, fault.Order)
			if !strings.Contains(err.Error(), "versions 1 to 2") || !strings.Contains(strings.Join(fault.HintsOf(err), "\n"), c.hint) {
				t.Errorf("%v, %q", err, fault.HintsOf(err))
			}
			if n := s.Calls("DELETE keys/k") + s.Calls("POST keys/k/config"); n != 0 {
				t.Errorf("%d calls that change the key", n)
			}
			admin(t, s, "POST", "keys/k/config", map[string]any{"min_decryption_version": 1})
			if !verifies(t, first) || !verifies(t, second) {
				t.Error("a version does not sign any more")
			}
		})
	}
	_, o := start(t) // control: as it was made
	p := open(t, o)
	ref := made(t, p, "k")
	if err := p.Destroy(t.Context(), ref); err != nil {
		t.Error(err)
	}
	if _, err := p.Open(t.Context(), ref); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key of one version: %v", err)
	}
}

// Whichever part of the answer tells of another version is believed.
func TestDestroyDoubted(t *testing.T) {
	s, o := start(t)
	p := open(t, o)
	ref := made(t, p, "k")
	for name, c := range map[string]struct {
		change func(data map[string]any)
		kind   fault.Kind
	}{
		"as it is": {func(map[string]any) {}, fault.None},
		"latest":   {func(data map[string]any) { data["latest_version"] = 2 }, fault.Order},
		"listed": {func(data map[string]any) {
			keys := data["keys"].(map[string]any)
			keys["2"] = keys["1"]
		}, fault.Order},
	} {
		s.Take(says(described(t, s, c.change)))
		before := s.Calls("DELETE keys/k")
		wantKind(t, name, p.Destroy(t.Context(), ref), c.kind)
		if deleted := s.Calls("DELETE keys/k") > before; deleted != (c.kind == fault.None) {
			t.Errorf("%s: deleted: %v", name, deleted)
		}
	}
}
