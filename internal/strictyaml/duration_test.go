package strictyaml

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"00:02:00":                  2 * time.Minute,
		"30.00:00:00":               30 * 24 * time.Hour,
		"00:00:00.5":                500 * time.Millisecond,
		"1.02:03:04.0000005":        26*time.Hour + 3*time.Minute + 4*time.Second + 500,
		"00:00:00":                  0,
		"1:02:03":                   time.Hour + 2*time.Minute + 3*time.Second,
		"2m":                        2 * time.Minute,
		"1h30m":                     90 * time.Minute,
		"0":                         0,
		"0s":                        0,
		"106751.23:47:16.854775807": math.MaxInt64,
	} {
		got, err := ParseDuration(text)
		if err != nil || got.Std() != want {
			t.Errorf("%q is %v (%v), want %v", text, got.Std(), err, want)
		}
	}
	for _, text := range []string{
		"", "10", "-1s", "-00:00:01", "24:00:00", "00:60:00", "00:00:60", "00:02", "1.00:00", "00:00:00.", "00:00:00.1234567890",
		"00:0:00", "00:00:0", "a:b:c", "1:2:3:4", ".00:00:00", "1..00:00:00", "00:00:00.-5", "+1:00:00", " 2m", "2m ", "1d",
		"106751.23:47:16.854775808", "106752.00:00:00", "999999.00:00:00", "٠٠:٠٠:٠٠",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q accepted as %v", text, got.Std())
		}
	}
}

func TestDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Duration(rapid.Int64Min(0).Draw(t, "nanoseconds"))
		text, err := want.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Duration
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Fatalf("%d became %s became %d (%v)", want, text, got, err)
		}
	})
	if got := Duration(-time.Second).String(); got != "-1s" {
		t.Errorf("a negative duration prints as %s", got)
	}
}
