package hashivault

import (
	"fmt"

	"github.com/stella-ops/stella/internal/fault"
)

// alone refuses what would be done to all versions of a key if it has others
// than that of ref. Archived ones are not listed, but are there: all from
// min_available_version to latest_version.
func (i *keyInfo) alone(mount string, ref reference) error {
	first := max(i.MinAvailable, 1)
	if first == ref.version && i.Latest == ref.version && len(i.Keys) == 1 {
		return nil
	}
	last := max(i.Latest, ref.version)
	key := mount + "/keys/" + ref.name
	err := fault.Errorf(fault.Order, "vault key %s has versions %d to %d: deleting it would take all of them, not version %d alone, so nothing was deleted",
		ref.name, first, last, ref.version)
	// Only the lowest versions can be ended while others stay.
	keep, end := ref.version+1, fmt.Sprintf("end versions up to %d, if nobody uses them", ref.version)
	if ref.version == last {
		keep, end = ref.version, "end the other versions, if nobody uses them"
	}
	return err.
		Hint("%s: vault write %s/config min_decryption_version=%d min_encryption_version=%d", end, key, keep, keep).
		Hint("and then: vault write %s/trim min_available_version=%d", key, keep).
		Hint("or end all: vault write %s/config deletion_allowed=true, then vault delete %s", key, key)
}
