package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/stella-ops/stella/internal/obs"
)

// Class says what a value may tell about somebody, and so who may read it.
type Class uint8

// The classes. A Sensitive value is replaced by a digest when it is made, so
// that no record ever holds it.
const (
	None Class = iota
	Personal
	Sensitive
)

// String returns the word for c that records use.
func (c Class) String() string {
	switch c {
	case None:
		return "None"
	case Personal:
		return "Personal"
	default:
		return "Sensitive" // also for a number that is no class: the safe reading
	}
}

func classOf(word string) (Class, bool) {
	for _, c := range []Class{None, Personal, Sensitive} {
		if c.String() == word {
			return c, true
		}
	}
	return 0, false
}

// Bounds of what one record takes in, in bytes where nothing else is said.
// Longer text is cut and ends in "…".
const (
	MaxText       = 512
	MaxUserAgent  = 256
	MaxScope      = 128
	MaxName       = 64 // of an event type and of a property
	MaxScopes     = 64 // in number
	MaxProperties = 32 // in number
)

// maxInput is how much of a text is looked at for credentials before it is
// cut; the rest is dropped unread.
const maxInput = 8 << 10

const mark = "…"

// digestPrefix begins what stands for a Sensitive value.
const digestPrefix = "sha256:"

// shortSecret stands for a Sensitive value of fewer than minDigested bytes: a
// digest of something so short can be searched for.
const (
	shortSecret = "[short]"
	minDigested = 16
)

// Value is a text with its class. Only Classify makes one, so what a Value
// holds may be written.
type Value struct {
	text  string
	class Class
}

// Classify makes a Value. Sensitive text is replaced by "sha256:" and the
// first 16 hex digits of its SHA-256, or by "[short]" under 16 bytes: enough
// to find the same token again, too little to use it. A digest can be compared
// with guesses, so never pass a password. Text of the other classes loses what
// looks like a credential (obs.Scrub) and is cut to MaxText.
func Classify(text string, class Class) Value { return classify(text, class, MaxText) }

func classify(text string, class Class, limit int) Value {
	if text == "" {
		return Value{}
	}
	if class > Personal {
		return Value{summary(text), Sensitive}
	}
	return Value{clean(text, limit), class}
}

// String returns the text that records show.
func (v Value) String() string { return v.text }

// Class returns the class.
func (v Value) Class() Class { return v.class }

func summary(text string) string {
	if len(text) < minDigested {
		return shortSecret
	}
	sum := sha256.Sum256([]byte(text))
	return digestPrefix + hex.EncodeToString(sum[:8])
}

// summarised reports whether summary can have made text.
func summarised(text string) bool {
	digits, ok := strings.CutPrefix(text, digestPrefix)
	if !ok {
		return text == shortSecret
	}
	raw, err := hex.DecodeString(digits)
	return err == nil && len(raw) == 8 && strings.ToLower(digits) == digits
}

// clean bounds text and takes credentials and broken UTF-8 out of it. What it
// returned once it returns unchanged.
func clean(text string, limit int) string {
	if len(text) > maxInput {
		text = text[:maxInput]
	}
	text = obs.Scrub(strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) <= limit {
		return text
	}
	end := limit - len(mark)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return obs.Scrub(text[:end] + mark)
}
