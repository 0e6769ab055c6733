package users

import (
	"strings"
	"testing"
)

const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func TestParseHash(t *testing.T) {
	s, err := parseHash(reference)
	if err != nil || s.Hashing != (Hashing{65536, 2, 1}) || string(s.salt) != "somesalt" || len(s.tag) != 32 {
		t.Fatalf("control: %+v %v", s, err)
	}
	for name, change := range map[string][2]string{
		"argon2i":            {"argon2id", "argon2i"},
		"version":            {"v=19", "v=16"},
		"no version":         {"v=19$", ""},
		"memory above bound": {"65536", "262145"},
		"memory overflows":   {"65536", "4295032832"},
		"memory below bound": {"65536", "7"},
		"no memory":          {"65536", "0"},
		"no iterations":      {"t=2", "t=0"},
		"many iterations":    {"t=2", "t=17"},
		"no lanes":           {"p=1", "p=0"},
		"many lanes":         {"p=1", "p=17"},
		"lanes overflow":     {"p=1", "p=257"},
		"negative":           {"t=2", "t=-2"},
		"plus":               {"t=2", "t=+2"},
		"zeros":              {"t=2", "t=02"},
		"order":              {"t=2,p=1", "p=1,t=2"},
		"data":               {"p=1", "p=1,data=x"},
		"short salt":         {"c29tZXNhbHQ", "c29tZXM"},
		"long salt":          {"c29tZXNhbHQ", strings.Repeat("AAAA", 22)},
		"short tag":          {"CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "CTFhFdXPJO1aFaMa"},
		"trailing bits":      {"GRPPc", "GRPPd"},
		"padding":            {"GRPPc", "GRPPc="},
		"newline":            {"GRPPc", "GRPPc\n"},
		"sixth field":        {"GRPPc", "GRPPc$"},
		"long":               {"v=19", "v=" + strings.Repeat("0", 300) + "19"},
	} {
		text := strings.Replace(reference, change[0], change[1], 1)
		if text == reference {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := parseHash(text); err == nil {
			t.Errorf("%s is accepted: %s", name, text)
		}
	}
}

func TestHashingCheck(t *testing.T) {
	for h, good := range map[Hashing]bool{
		{47104, 1, 1}: true, {19456, 2, 1}: true, {12288, 3, 1}: true, {9216, 4, 1}: true, {7168, 5, 1}: true, {262144, 16, 16}: true,
		{19456, 1, 1}: false, {7167, 6, 1}: false, {7168, 4, 1}: false, {262145, 2, 1}: false, {19456, 17, 1}: false,
		{19456, 2, 17}: false, {19456, 2, 0}: false, {}: false,
	} {
		if err := h.Check(); (err == nil) != good {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// FuzzParseHash: what is accepted is within the bounds and has one spelling.
func FuzzParseHash(f *testing.F) {
	f.Add(reference)
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m= 8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseHash(text)
		if err != nil {
			if s != nil {
				t.Fatal("a result with an error")
			}
			return
		}
		if s.String() != text || !s.bounded() || len(s.salt) > maxField || len(s.tag) > maxField || len(s.tag) < 16 {
			t.Fatalf("%q is read as %+v", text, s)
		}
	})
}

func TestPasswordRules(t *testing.T) {
	all := PasswordRules{MinimumLength: 12, Upper: true, Lower: true, Digit: true, Symbol: true}
	for _, row := range []struct {
		rules          PasswordRules
		password, want string
	}{
		{PasswordRules{MinimumLength: 12}, "abcdefghijkl", ""},
		{PasswordRules{MinimumLength: 12}, "abcdefghijk", "at least 12 characters"},
		{PasswordRules{MinimumLength: 12}, "ääääääääääää", ""},
		{PasswordRules{MinimumLength: 12}, "äääääääääää", "at least 12 characters"},
		{PasswordRules{}, "1234567", "at least 8 characters"},
		{PasswordRules{}, "", "characters"},
		{PasswordRules{}, strings.Repeat("x", 1024), ""},
		{PasswordRules{}, strings.Repeat("x", 1025), "more than 1024 bytes"},
		{PasswordRules{}, "line one\nline two", "control characters"},
		{PasswordRules{}, "bad \xff bytes in it", "control characters"},
		{PasswordRules{}, "Hannah was here", "something else than the user name"},
		{PasswordRules{}, "Hanna was here", ""},
		{all, "Abcdefghij1!", ""},
		{all, "abcdefghij1!", "an upper-case letter"},
		{all, "ABCDEFGHIJ1!", "a lower-case letter"},
		{all, "Abcdefghijk!", "a digit"},
		{all, "Abcdefghij1k", "a symbol"},
		{all, "Abcdefghi 12", "a symbol"},
		{all, "abc", "at least 12 characters, an upper-case letter, a digit, a symbol"},
	} {
		got, err := row.rules.check(row.password, "hannah")
		switch {
		case row.want == "" && (err != nil || got != row.password):
			t.Errorf("%.30q is refused: %v", row.password, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%.30q: %v, want %q", row.password, err, row.want)
		case err != nil && len(row.password) > 3 && strings.Contains(err.Error(), row.password):
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

// What cannot be used matches nothing, whatever comes out of the hash.
func TestUnusableMatchesNothing(t *testing.T) {
	d := New(Options{Hash: func(_, _ []byte, _ Hashing, size int) []byte { return make([]byte, size) }})
	zero := (&stored{Hashing: Hashing{65536, 2, 1}, salt: newSalt(), tag: make([]byte, tagSize)}).String()
	for name, row := range map[string]struct {
		password, phc string
		good          bool
	}{
		"control":     {"x", zero, true},
		"no hash":     {"x", "", false},
		"broken hash": {"x", zero + "$", false},
		"no password": {"\x00", zero, false},
	} {
		if good, _ := d.matches(row.password, row.phc, DefaultPolicy().Hashing); good != row.good {
			t.Errorf("%s: %v", name, good)
		}
	}
}
