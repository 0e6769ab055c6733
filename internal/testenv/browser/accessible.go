package browser

import (
	_ "embed"
	"fmt"
	"slices"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

//go:embed rules.js
var rules string

// Finding is one way in which a page is not accessible.
type Finding struct{ Rule, Detail string }

// String is one line.
func (f Finding) String() string { return f.Rule + ": " + f.Detail }

// Findings checks the page that is shown, in the window and the colours that
// it is shown in. The rules are:
//
//   - lang, title, h1, main: the page says what it is (WCAG 2.2: 3.1.1, 2.4.2, 1.3.1);
//   - label, name, alt, reference, id: every control and picture has a name (4.1.2, 1.1.1);
//   - error: a field that is wrong points to the alert that says why (3.3.1);
//   - tabindex, order, focus: the keyboard reaches every control, in reading
//     order, and one sees where it is (2.1.1, 2.4.3, 2.4.7);
//   - contrast 4.5, or 3 for large text, edge 3 for fields (1.4.3, 1.4.11);
//   - target: 24 by 24 CSS pixels (2.5.8); overflow: no scrolling sideways (1.4.10).
func Findings(b *Browser) []Finding {
	b.t.Helper()
	all := make([]Finding, 0, 4)
	for _, f := range Eval[[][2]string](b, rules) {
		all = append(all, Finding{f[0], f[1]})
	}
	return append(all, b.keyboard()...)
}

// Accessible reports each finding as an error of the test.
func (b *Browser) Accessible(what string) {
	b.t.Helper()
	for _, f := range Findings(b) {
		b.t.Errorf("%s: %s", what, f)
	}
}

// mark numbers what the Tab key should reach (of radio buttons with one name
// only the checked or the first), remembers how it looks, and puts the focus
// before the first of them.
const mark = `(() => {
  const look = (e) => { const s = getComputedStyle(e); return [s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow].join(" "); };
  const seen = new Set();
  window.__stops = [...document.querySelectorAll("a[href], button, input, select, textarea, [tabindex]")].filter((e) => {
    const box = e.getBoundingClientRect();
    if (e.disabled || e.type === "hidden" || e.hasAttribute("tabindex") && e.tabIndex < 0 && !e.matches("a[href], button, input, select, textarea") || !box.width || getComputedStyle(e).visibility !== "visible") return false;
    if (e.type !== "radio") return true;
    if (seen.has(e.name)) return false;
    const checked = [...document.getElementsByName(e.name)].find((r) => r.checked);
    if (checked && checked !== e) return false;
    seen.add(e.name);
    return true;
  });
  document.activeElement.blur();
  window.__looks = window.__stops.map(look);
  window.__look = look;
  const start = document.createElement("span");
  start.tabIndex = -1;
  start.id = "__start";
  document.body.prepend(start);
  start.focus();
  return window.__stops.map((e) => e.outerHTML.replace(/\s+/g, " ").slice(0, 100));
})()`

// reached tells which stop has the focus (-1: another element) and whether one
// can see that.
const reached = `(() => {
  const e = document.activeElement, i = window.__stops.indexOf(e);
  if (i < 0) return [-1, false];
  const s = getComputedStyle(e);
  const outline = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1;
  return [i, (outline || s.boxShadow !== "none") && window.__look(e) !== window.__looks[i]];
})()`

// keyboard walks the page by the Tab key.
func (b *Browser) keyboard() []Finding {
	b.t.Helper()
	var all []Finding
	stops := Eval[[]string](b, mark)
	var order []int
	for range stops {
		b.Run(chromedp.KeyEvent(kb.Tab))
		at := Eval[[2]any](b, reached)
		i, seen := int(at[0].(float64)), at[1].(bool)
		if i < 0 {
			break
		}
		if slices.Contains(order, i) {
			break
		}
		order = append(order, i)
		if !seen {
			all = append(all, Finding{"focus", stops[i]})
		}
	}
	if !slices.IsSorted(order) {
		all = append(all, Finding{"order", fmt.Sprintf("the Tab key goes %v", order)})
	}
	for i, stop := range stops {
		if !slices.Contains(order, i) {
			all = append(all, Finding{"order", "the Tab key does not reach " + stop})
		}
	}
	b.Run(chromedp.Evaluate(`document.getElementById("__start").remove(); document.activeElement.blur()`, nil))
	return all
}
