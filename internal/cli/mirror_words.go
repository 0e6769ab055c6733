package cli

import (
	"fmt"
	"time"
)

// size is a number of bytes as a person reads it: 999 B, 1.5 MiB.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if v /= 1024; v < 1023.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// rate is bytes a second over a time; 0 before anything can be said.
func rate(n int64, over time.Duration) int64 {
	if over < 50*time.Millisecond {
		return 0
	}
	return int64(float64(n) / over.Seconds())
}

// ago is how long before now a moment was.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return clock(t) + ", " + span(now.Sub(t)) + " ago"
}
