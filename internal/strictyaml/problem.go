package strictyaml

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/fault"
)

// maxProblems bounds how many mistakes of one document are told at once.
const maxProblems = 20

// problem is one mistake in a document.
type problem struct {
	line       int
	path, text string
	hint       string
}

func (c *checker) add(line int, path, hint, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, problem{line, path, fmt.Sprintf(format, args...), hint})
	}
}

// err folds all problems into one fault of kind Config.
func (c *checker) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	lines := make([]string, len(c.problems))
	for i, p := range c.problems {
		lines[i] = fmt.Sprintf("%s:%d: ", c.name, p.line)
		if p.path != "" {
			lines[i] += p.path + ": "
		}
		lines[i] += p.text
	}
	text := lines[0]
	if len(lines) > 1 {
		text = fmt.Sprintf("%d problems in %s:\n  %s", len(lines), c.name, strings.Join(lines, "\n  "))
	}
	e := fault.Errorf(fault.Config, "%s", text)
	for _, p := range c.problems {
		if p.hint != "" && !slices.Contains(e.Hints, p.hint) {
			e.Hints = append(e.Hints, p.hint)
		}
	}
	return e
}

// Nearest returns the candidate that word most likely meant, or "" when none
// is close: at most a third of the letters differ, ignoring case.
func Nearest(word string, candidates []string) string {
	best, bestDist := "", len(word)/3+1
	if len(word) > 100 {
		return ""
	}
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(diag+cost, row[j]+1, row[j+1]+1)
			diag, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func didYouMean(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return ""
}

// show quotes a found value for a message, shortened. What sits under a key
// that names a secret is withheld, for it may be one pasted in the wrong place.
func show(path, value string) string {
	last := strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])
	for _, word := range []string{"secret", "password", "token", "key", "credential", "connectionstring", "uri"} {
		if strings.Contains(last, word) {
			return "a value (withheld)"
		}
	}
	const limit = 60
	if len(value) > limit {
		return fmt.Sprintf("%.60q…", value)
	}
	return fmt.Sprintf("%q", value)
}
