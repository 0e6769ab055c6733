package durable

import (
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Sweep removes temporary files older than age that a crash left behind. Age
// must be longer than any write takes, or a live writer loses its file.
func (d *Dir) Sweep(age time.Duration) error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("listing %q: %w", d.Path(), err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < age {
			continue
		}
		if err := d.root.Remove(e.Name()); err != nil {
			return fmt.Errorf("removing left-over %q in %q: %w", e.Name(), d.Path(), err)
		}
	}
	return nil
}
