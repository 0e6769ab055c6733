package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/testenv"
	"github.com/stella-ops/stella/internal/testenv/browser"
)

// good breaks no rule; each row below breaks one by one replacement.
const good = `<!doctype html><html lang="en"><head><title>Good</title><style>
body { font: 16px sans-serif; color: #222; background: #fff }
.box { background: #fff } .big { font-size: 24px; color: #222 }
input, button { min-height: 32px; min-width: 32px; border: 1px solid #555; color: #222; background: #fff }
:focus-visible { outline: 2px solid #00f }
</style></head><body><main><h1>Title</h1>
<div role="alert" id="why">Wrong.</div>
<p class="box">Some text</p><p class="big">Large text</p>
<form><label for="name">Name</label><input id="name" type="text" aria-invalid="true" aria-describedby="why">
<input type="radio" name="r" aria-label="one" style="width:24px;height:24px"><input type="radio" name="r" aria-label="two" style="width:24px;height:24px">
<button id="send">Send</button><button id="stop">Stop</button> <a href="#x">away</a></form>
<img src="data:," alt="">
</main></body></html>`

func TestEachRule(t *testing.T) {
	var page string
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, page) }))
	defer site.Close()
	b := browser.New(t, "")
	b.Resize(320, 640)
	for _, row := range []struct{ rule, old, new string }{
		{"", "", ""},
		{"lang", ` lang="en"`, ""},
		{"title", "<title>Good</title>", "<title> </title>"},
		{"h1", "<h1>Title</h1>", "<h2>Title</h2>"},
		{"h1", "<h1>Title</h1>", "<h1>Title</h1><h1>Again</h1>"},
		{"main", "<main>", "<div>"},
		{"label", `<label for="name">Name</label>`, ""},
		{"label", `<label for="name">Name</label>`, `<label for="name"></label>`},
		{"label", `aria-label="one"`, ""},
		{"name", ">Send<", "><"},
		{"name", ">away<", "><"},
		{"alt", ` alt=""`, ""},
		{"reference", `aria-describedby="why"`, `aria-describedby="why nowhere"`},
		{"id", `id="stop"`, `id="send"`},
		{"error", ` aria-describedby="why"`, ""},
		{"error", ` role="alert"`, ""},
		{"order tabindex", `id="stop"`, `id="stop" tabindex="1"`},
		{"order", "<form>", `<form><span tabindex="0" onfocus="this.blur()">x</span>`},
		{"order", `id="send"`, `id="send" tabindex="-1"`},
		{"focus", ":focus-visible { outline: 2px solid #00f }", "* { outline: none !important }"},
		{"focus", ":focus-visible { outline: 2px solid #00f }", "input, button, a { outline: 2px solid #00f !important }"},
		{"contrast", ".box { background: #fff }", ".box { color: #777; background: #fff }"}, // 4.48
		{"", ".box { background: #fff }", ".box { color: #767676; background: #fff }"},      // 4.54
		{"contrast", ".box { background: #fff }", ".box { background: rgb(0 0 0 / .8) }"},
		{"contrast", "24px; color: #222", "24px; color: #959595"}, // 2.99
		{"", "24px; color: #222", "24px; color: #949494"},         // 3.03
		{"contrast", "color: #222; background: #fff }\n:", "color: #aaa; background: #fff }\n:"},
		{"edge", "1px solid #555", "1px solid #aaa"},
		{"edge", "1px solid #555", "0"},
		{"target", "min-height: 32px", "height: 20px; box-sizing: border-box"},
		{"overflow", ".box {", ".box { width: 400px;"},
	} {
		page = strings.Replace(good, row.old, row.new, 1)
		if row.rule != "" && page == good {
			t.Fatalf("%q is not in the page", row.old)
		}
		if status := b.Open(site.URL); status != 200 {
			t.Fatal(status)
		}
		var got []string
		found := browser.Findings(b)
		for _, f := range found {
			got = append(got, f.Rule)
		}
		slices.Sort(got)
		if strings.Join(slices.Compact(got), " ") != row.rule {
			t.Errorf("with %q: want %q, found %v", row.new, row.rule, found)
		}
	}
}

// A browser trusts the certificate it is given and no other, and shares
// nothing with another browser.
func TestTrustAndProfiles(t *testing.T) {
	ca, err := testenv.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := r.Cookie("seen")
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
		fmt.Fprintf(w, "<!doctype html><title>x</title><p>seen before: %t</p>", err == nil)
	})
	mine, err := testenv.Serve(t.Context(), ca, "mine", hello)
	if err != nil {
		t.Fatal(err)
	}
	other, err := testenv.Serve(t.Context(), ca, "other", hello)
	if err != nil {
		t.Fatal(err)
	}
	a, b := browser.New(t, ca.Dir+"/mine.crt"), browser.New(t, ca.Dir+"/mine.crt")
	for _, step := range []struct {
		b    *browser.Browser
		want string
	}{{a, "false"}, {a, "true"}, {b, "false"}} {
		if status := step.b.Open(mine); status != 200 || !strings.Contains(step.b.Text(), "seen before: "+step.want) {
			t.Errorf("%d %q, want %s", status, step.b.Text(), step.want)
		}
	}
	if err := a.TryOpen(other); err == nil || !strings.Contains(err.Error(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("another certificate: %v", err)
	}
	if got := a.Cookies(); len(got) > 1 {
		t.Errorf("%d cookies", len(got))
	}
}
