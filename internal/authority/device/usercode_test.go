package device_test

import (
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/authority/device"
	"github.com/stella-ops/stella/internal/authority/store/mem"
)

func TestUserCodes(t *testing.T) {
	i := begin(t, codesOn(mem.New(0), newClock()))
	if len(i.UserCode) != 9 || i.UserCode[4] != '-' || !device.Is256(i.DeviceCode) {
		t.Fatalf("%+v", i)
	}
	letters := map[rune]int{}
	for range 40_000 {
		for _, r := range device.NewUserCode() {
			letters[r]++
		}
	}
	for r, n := range letters { // 16,000 each, with a standard deviation of 123
		if !strings.ContainsRune("BCDFGHJKLMNPQRSTVWXZ", r) || n < 15_260 || n > 16_740 {
			t.Errorf("%c occurs %d times", r, n)
		}
	}
	if len(letters) != 20 {
		t.Errorf("%d letters", len(letters))
	}
	for s, want := range map[string]bool{
		i.DeviceCode: true, i.DeviceCode[1:]: false, i.DeviceCode + "=": false, i.DeviceCode[:42] + "\n" + i.DeviceCode[42:]: false, "": false,
	} {
		if device.Is256(s) != want {
			t.Errorf("%q: %t", s, !want)
		}
	}
	for typed, want := range map[string]string{
		"BCDF-GHJK": "BCDFGHJK", "bcdfghjk": "BCDFGHJK", " b c d f  g-h-j-k ": "BCDFGHJK", "BCDF-GHJ": "", "BCDF-GHJKL": "",
		"BCDF-GHJA": "", "BCDF_GHJK": "", "": "", "BCDF-GHJ\u212a": "", strings.Repeat("-", 60) + "BCDFGHJK": "",
	} {
		if got := device.ParseUserCode(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

// What is accepted is one of the codes that are made, and written in the form
// that people see it is the same code.
func FuzzUserCode(f *testing.F) {
	f.Add("BCDF-GHJK")
	f.Add(" bcdf ghjk-")
	f.Add("BCDF-GHJ\u212a")
	f.Fuzz(func(t *testing.T, typed string) {
		code := device.ParseUserCode(typed)
		if code == "" {
			return
		}
		if len(code) != 8 || strings.Trim(code, "BCDFGHJKLMNPQRSTVWXZ") != "" {
			t.Fatalf("%q is %q", typed, code)
		}
		if again := device.ParseUserCode(code[:4] + "-" + code[4:]); again != code {
			t.Fatalf("%q, then %q", code, again)
		}
	})
}
