package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time in configuration. It reads .NET TimeSpan text
// ("00:02:00", "30.00:00:00", "00:00:00.5") and Go durations ("2m", "1h30m"),
// and writes TimeSpan text. It is never negative. A bare number is refused,
// for it would mean days to one reader and seconds to the next.
type Duration time.Duration

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// ParseDuration parses text as Duration describes.
func ParseDuration(text string) (Duration, error) {
	if text == "0" {
		return 0, nil
	}
	if strings.Contains(text, ":") {
		return parseTimeSpan(text)
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, badDuration(text)
	case d < 0:
		return 0, fmt.Errorf("duration %.60q is negative", text)
	}
	return Duration(d), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns d as TimeSpan text: [days.]hh:mm:ss[.fraction].
func (d Duration) String() string {
	if d < 0 {
		return time.Duration(d).String() // out of the type's range; never parsed back
	}
	sec := int64(d / Duration(time.Second))
	var b strings.Builder
	if days := sec / 86400; days > 0 {
		fmt.Fprintf(&b, "%d.", days)
	}
	fmt.Fprintf(&b, "%02d:%02d:%02d", sec/3600%24, sec/60%60, sec%60)
	if frac := int64(d) % int64(time.Second); frac != 0 {
		b.WriteString(strings.TrimRight(fmt.Sprintf(".%09d", frac), "0"))
	}
	return b.String()
}

// parseTimeSpan parses [d.]hh:mm:ss[.fraction of one to nine digits].
func parseTimeSpan(text string) (Duration, error) {
	clock, fraction, hasFraction := text, "", false
	if last := strings.LastIndexByte(text, ':'); strings.Contains(text[last:], ".") {
		dot := strings.LastIndexByte(text, '.')
		clock, fraction, hasFraction = text[:dot], text[dot+1:], true
	}
	days, rest, hasDays := strings.Cut(clock, ".")
	if !hasDays {
		days, rest = "0", clock
	}
	parts := strings.Split(rest, ":")
	if len(parts) != 3 {
		return 0, badDuration(text)
	}
	nanos, err := fractionNanos(fraction, hasFraction)
	if err != nil {
		return 0, badDuration(text)
	}
	var total int64
	for i, f := range []struct {
		text        string
		digits, max int
		seconds     int64
	}{{days, 6, 106751, 86400}, {parts[0], 2, 23, 3600}, {parts[1], 2, 59, 60}, {parts[2], 2, 59, 1}} {
		n, err := digits(f.text, f.digits)
		if err != nil || n > f.max || (i > 1 && len(f.text) != 2) {
			return 0, badDuration(text)
		}
		total += int64(n) * f.seconds
	}
	if total > (math.MaxInt64-nanos)/int64(time.Second) {
		return 0, badDuration(text)
	}
	return Duration(total*int64(time.Second) + nanos), nil
}

func fractionNanos(text string, has bool) (int64, error) {
	if !has {
		return 0, nil
	}
	n, err := digits(text, 9)
	if err != nil {
		return 0, err
	}
	for range 9 - len(text) {
		n *= 10
	}
	return int64(n), nil
}

// digits parses one to limit decimal digits, without sign.
func digits(text string, limit int) (int, error) {
	if text == "" || len(text) > limit || strings.Trim(text, "0123456789") != "" {
		return 0, errors.New("not digits")
	}
	return strconv.Atoi(text)
}

func badDuration(text string) error {
	return fmt.Errorf("%.60q is not a duration; allowed: hh:mm:ss, d.hh:mm:ss, or Go text such as 90s, 2m, 1h30m", text)
}
