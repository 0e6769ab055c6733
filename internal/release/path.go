package release

import (
	"strings"
)

// Bounds of a member's name, in bytes and in elements.
const (
	maxPath    = 512
	maxElement = 200
	maxDepth   = 16
)

// FeedName reports whether s may name a feed: 1 to 64 lower-case letters,
// digits and hyphens, beginning with a letter.
func FeedName(s string) bool {
	return s != "" && len(s) <= 64 && 'a' <= s[0] && s[0] <= 'z' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && CheckPath(s) == nil
}

// ExportID reports whether s may name an export: a plain file name of at most
// 64 bytes, and none that a mirror uses itself: latest, previous, NAME.json.
func ExportID(s string) bool {
	return len(s) <= 64 && !strings.Contains(s, "/") && CheckPath(s) == nil && s != "latest" && s != "previous" && !strings.HasSuffix(s, ".json")
}

// CheckPath refuses a path that is not plain on every system: each element is
// 1 to 200 ASCII letters, digits and . _ - + = @ ~ , not beginning with a dot
// or a hyphen, not ending in a dot, and no device name of Windows; at most 16 elements and 512
// bytes. So no path climbs, is absolute, hides, or means another file
// elsewhere (CWE-22, CWE-67). Errors have the Reason HostileName.
func CheckPath(p string) error {
	if p == "" || len(p) > maxPath {
		return refuse(HostileName, "the name %.100q has %d bytes; 1 to %d are allowed", p, len(p), maxPath)
	}
	if strings.Count(p, "/") >= maxDepth {
		return refuse(HostileName, "the name %.100q has more than %d elements", p, maxDepth)
	}
	for e := range strings.SplitSeq(p, "/") {
		if !plainElement(e) {
			return refuse(HostileName, "the name %.200q is not plain: letters, digits and . _ - + = @ ~ , only, no leading dot or hyphen, no device name", p)
		}
	}
	return nil
}

func plainElement(e string) bool {
	if e == "" || len(e) > maxElement || e[0] == '.' || e[0] == '-' || e[len(e)-1] == '.' {
		return false
	}
	for i := range len(e) {
		c := e[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-+=@~,", rune(c)) {
			return false
		}
	}
	return !device(e)
}

// device reports whether Windows takes a name for a device, which it does
// whatever follows the first dot.
func device(e string) bool {
	base, _, _ := strings.Cut(strings.ToLower(e), ".")
	switch base {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	return len(base) == 4 && (strings.HasPrefix(base, "com") || strings.HasPrefix(base, "lpt")) && base[3] >= '0' && base[3] <= '9'
}

// Names finds paths of one release that clash: that are one file or directory on a system that ignores
// case, or a file that is a directory too.
type Names struct {
	spelled map[string]string // lower case to spelling, of files and directories
	dirs    map[string]bool
}

// NewNames makes an empty set.
func NewNames() *Names { return &Names{map[string]string{}, map[string]bool{}} }

// Add takes one path in. Errors have the Reason HostileName.
func (n *Names) Add(p string) error {
	if err := CheckPath(p); err != nil {
		return err
	}
	if low := strings.ToLower(p); low == FileStatement || low == FileSignature {
		return refuse(HostileName, "%s cannot be a member of itself", p)
	}
	for i := 0; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		dir := p[:i]
		if err := n.spell(dir); err != nil {
			return err
		}
		if !n.dirs[dir] {
			if _, file := n.spelled[strings.ToLower(dir)+"\x00"]; file {
				return refuse(HostileName, "%.200q is a file and a directory", dir)
			}
			n.dirs[dir] = true
		}
	}
	if err := n.spell(p); err != nil {
		return err
	}
	if n.dirs[p] {
		return refuse(HostileName, "%.200q is a file and a directory", p)
	}
	n.spelled[strings.ToLower(p)+"\x00"] = p
	return nil
}

func (n *Names) spell(p string) error {
	low := strings.ToLower(p)
	if was, ok := n.spelled[low]; ok && was != p {
		return refuse(HostileName, "%.200q and %.200q differ in case only", was, p)
	}
	n.spelled[low] = p
	return nil
}
