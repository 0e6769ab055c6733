package store

import "time"

// MaxAgeEnd is until when a cache lifetime that was last seen at a vantage
// point at the time seen may still be in effect there: a copy stored under it
// lives that long, and it may have been served for as long again after that
// look.
func MaxAgeEnd(lifetime time.Duration, seen time.Time) time.Time {
	return seen.Add(2 * lifetime)
}
