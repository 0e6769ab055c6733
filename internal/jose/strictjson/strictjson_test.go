package strictjson_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/jose/strictjson"
)

type embedded struct {
	Deep string `json:"deep"`
}

type record struct {
	embedded
	Name    string `json:"name"`
	Plain   int
	Skip    string            `json:"-"`
	List    []record          `json:"list"`
	Map     map[string]record `json:"map"`
	Any     any               `json:"any"`
	Time    time.Time         `json:"time"`
	Pointer *embedded         `json:"pointer"`
	Raw     json.RawMessage   `json:"raw"`
}

func TestDecode(t *testing.T) {
	rows := []struct{ name, bad, control string }{
		{"duplicate", `{"name":"a","name":"b"}`, `{"name":"a","Plain":1}`},
		{"duplicate by escape", `{"name":"a","\u006eame":"b"}`, `{"\u006eame":"b"}`},
		{"deep duplicate in any", `{"any":[{"a":1,"a":2}]}`, `{"any":[{"a":1,"A":2}]}`},
		{"deep duplicate in raw", `{"raw":{"a":1,"a":2}}`, `{"raw":{"a":1,"b":2}}`},
		{"unknown", `{"other":1}`, `{"Plain":1}`},
		{"other case", `{"Name":"a"}`, `{"name":"a"}`},
		{"other case in a list", `{"list":[{"NAME":"a"}]}`, `{"list":[{"name":"a"}]}`},
		{"other case in a map", `{"map":{"x":{"NAME":"a"}}}`, `{"map":{"x":{"name":"a"},"X":{}}}`},
		{"other case behind a pointer", `{"pointer":{"Deep":"a"}}`, `{"pointer":{"deep":"a"}}`},
		{"embedded, other case", `{"Deep":"a"}`, `{"deep":"a"}`},
		{"embedded type by name", `{"embedded":{}}`, `{"deep":""}`},
		{"untagged, other case", `{"plain":1}`, `{"Plain":1}`},
		{"left out", `{"Skip":"a"}`, `{"name":"a"}`},
		{"trailing value", `{} {}`, `{} `},
		{"trailing comma", `{"Plain":1,}`, `{"Plain":1}`},
		{"trailing comma in a list", `{"any":[1,]}`, `{"any":[1]}`},
		{"leading comma", `{,"Plain":1}`, `{"Plain":1}`},
		{"leading zero", `{"Plain":01}`, `{"Plain":10}`},
		{"plus", `{"Plain":+1}`, `{"Plain":-1}`},
		{"bare fraction", `{"any":1.}`, `{"any":1.5}`},
		{"bare exponent", `{"any":1e}`, `{"any":1e+2}`},
		{"invalid UTF-8", "{\"name\":\"\xc3\"}", `{"name":"Ã"}`},
		{"control character", "{\"name\":\"\x01\"}", `{"name":"\u0001"}`},
		{"lone high surrogate", `{"name":"\ud800"}`, `{"name":"\ud800\udc00"}`},
		{"lone low surrogate", `{"name":"\udc00"}`, `{"name":"\ud7ff"}`},
		{"two high surrogates", `{"name":"\ud800\ud800"}`, `{"name":"\uD800\uDC00"}`},
		{"bad escape", `{"name":"\x"}`, `{"name":"\/"}`},
		{"bad hex", `{"name":"\u00g0"}`, `{"name":"\u00a0"}`},
		{"open string", `{"name":"`, `{"name":""}`},
		{"wrong type", `{"name":1}`, `{"name":"1"}`},
		{"word", `{"any":nul}`, `{"any":null}`},
		{"empty", ``, `null`},
		{"deep", `{"any":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, `{"any":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var v record
			if err := strictjson.Decode([]byte(r.control), &v); err != nil {
				t.Errorf("control refused: %v", err)
			}
			var loose record
			if err := json.Unmarshal([]byte(r.control), &loose); err != nil || !reflect.DeepEqual(v, loose) {
				t.Errorf("control differs from encoding/json: %+v, %+v, %v", v, loose, err)
			}
			if err := strictjson.Decode([]byte(r.bad), &record{}); !errors.Is(err, strictjson.ErrMalformed) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestManyMembers(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, `"m%d":%d,`, i, i)
	}
	good := "{" + b.String() + `"last":1}`
	list, err := strictjson.Members([]byte(good))
	if err != nil || len(list) != 5001 || list[5000].Name != "last" || string(list[4999].Raw) != "4999" {
		t.Fatal(len(list), err)
	}
	for _, again := range []string{"m0", "m15", "m16", "m4999"} {
		if _, err := strictjson.Members([]byte("{" + b.String() + `"` + again + `":1}`)); !errors.Is(err, strictjson.ErrMalformed) {
			t.Errorf("%s twice: %v", again, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"name":"a","list":[{"deep":"\ud83d\ude00"}],"Plain":-12}`, `{"any":{"a":[1.5e-3,true,null]}}`, `{"a":1,"\u0061":2}`, `[]`, `{"name":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v record
		if err := strictjson.Decode(data, &v); err == nil {
			var loose record
			if err := json.Unmarshal(data, &loose); err != nil || !reflect.DeepEqual(v, loose) {
				t.Fatalf("encoding/json reads %q as %+v, we %+v (%v)", data, loose, v, err)
			}
		}
		if err := strictjson.Check(data); err == nil && !json.Valid(data) {
			t.Fatalf("%q is not JSON", data)
		}
		list, err := strictjson.Members(data)
		if err != nil {
			if !errors.Is(err, strictjson.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(data, &m); err != nil || len(m) != len(list) {
			t.Fatalf("%d members, encoding/json has %d (%v) in %q", len(list), len(m), err, data)
		}
		for _, e := range list {
			if string(m[e.Name]) != string(e.Raw) {
				t.Fatalf("member %q is %q, encoding/json has %q", e.Name, e.Raw, m[e.Name])
			}
			if s, err := strictjson.Text(e.Name, e.Raw); err == nil {
				var want string
				if json.Unmarshal(e.Raw, &want) != nil || s != want {
					t.Fatalf("text %q, encoding/json has %q", s, want)
				}
			}
			if l, err := strictjson.Texts(e.Name, e.Raw); err == nil {
				var want []string
				if json.Unmarshal(e.Raw, &want) != nil || len(l) != len(want) || len(l) > 0 && !reflect.DeepEqual(l, want) {
					t.Fatalf("texts %q, encoding/json has %q", l, want)
				}
			}
		}
	})
}
