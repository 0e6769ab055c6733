package strictyaml

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stella-ops/stella/internal/fault"
)

func TestOverlay(t *testing.T) {
	got := sample{Issuer: "file", Dirs: []string{"a"}, Labels: map[string]int{"Mixed": 1}}
	env := []string{
		"PATH=/bin",
		"APPX_OTHER=1", // another prefix
		"APP__ISSUER=env",
		"APP__RATELIMITING__PERMITLIMIT=9",
		"app__rateLimiting__window=2m",
		"APP__MORE__ON=true",
		"APP__PLUGINDIRECTORIES__0=b",
		"APP__PLUGINDIRECTORIES__10=k", "APP__PLUGINDIRECTORIES__9=j", "APP__PLUGINDIRECTORIES__1=c",
		"APP__PLUGINDIRECTORIES__2=d", "APP__PLUGINDIRECTORIES__3=e", "APP__PLUGINDIRECTORIES__4=f",
		"APP__PLUGINDIRECTORIES__5=g", "APP__PLUGINDIRECTORIES__6=h", "APP__PLUGINDIRECTORIES__7=i",
		"APP__PLUGINDIRECTORIES__8=null",
		"APP__ITEMS__0__ON=true",
		"APP__LABELS__MIXED=2", "APP__LABELS__NEW=3",
		"APP__COLOR=red",
		"APP__SIGNING_KEY=file:/a=b",
		"APP__REGION=south",
	}
	if err := Overlay("APP_", env, &got); err != nil {
		t.Fatal(err)
	}
	want := sample{
		Issuer: "env", Rate: inner{PermitLimit: 9, Window: Duration(2 * time.Minute)}, More: &inner{On: true},
		Dirs:  []string{"b", "c", "d", "e", "f", "g", "h", "i", "null", "j", "k"},
		Items: []inner{{On: true}}, Labels: map[string]int{"Mixed": 2, "new": 3}, Color: "red", Key: "file:/a=b",
		Shared: shared{"south"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestOverlayRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"APP__ISUER=x":                     "environment APP__ISUER: unknown name under APP_ | did you mean APP__ISSUER?",
		"APP_ISSUER=x":                     "environment APP_ISSUER: unknown name under APP_ | did you mean APP__ISSUER?",
		"APP__=x":                          "environment APP__: unknown name",
		"APP__ISSUER__X=y":                 "unknown name",
		"APP__RATELIMITING=x":              "names a block or a list, not one value",
		"APP__PLUGINDIRECTORIES=x":         "names a block or a list",
		"APP__PLUGINDIRECTORIES__1=x":      `"1" is not an index from 0 to 0`,
		"APP__PLUGINDIRECTORIES__-1=x":     "not an index",
		"APP__PLUGINDIRECTORIES__999999=x": "not an index",
		"APP__RATELIMITING__PERMITLIMIT=x": `environment APP__RATELIMITING__PERMITLIMIT: found "x" where a whole number`,
		"APP__RATELIMITING__PERMITLIMIT=":  "found no value where a whole number",
		"APP__RATELIMITING__WINDOW=90":     `"90" is not a duration`,
		"APP__COLOR=gren":                  "allowed values: red, green | did you mean green?",
		"APP__SIGNING_KEY=hunter2":         "not a secret reference",
		"APP__LABELS__X=text":              "whole number",
		"APP__RATIO=[1, 2]":                "where a number belongs",
		"APP__SMALL=!!int 3":               "whole number",
	} {
		var v sample
		err := Overlay("APP", []string{line}, &v)
		if fault.KindOf(err) != fault.Config {
			t.Errorf("%s: %v", line, err)
			continue
		}
		full := err.Error() + " | " + strings.Join(fault.HintsOf(err), " | ")
		if !strings.Contains(full, want) || strings.Contains(full, "hunter2") {
			t.Errorf("%s: %q, want to find %q", line, full, want)
		}
	}
}

func TestSet(t *testing.T) {
	var v sample
	if err := Set("flag --window", []string{"rateLimiting", "window"}, "5s", &v); err != nil || v.Rate.Window.Std() != 5*time.Second {
		t.Errorf("%+v, %v", v.Rate, err)
	}
	for _, path := range [][]string{{"bogus"}, nil, {"rateLimiting", "bogus"}} {
		err := Set("flag --x", path, "1", &v)
		if fault.KindOf(err) != fault.Config || !strings.HasPrefix(err.Error(), "flag --x: no such key") {
			t.Errorf("%v: %v", path, err)
		}
	}
}

func TestNames(t *testing.T) {
	got := Names("STELLAOPS_AUTHORITY_", &sample{})
	for _, want := range []string{
		"STELLAOPS_AUTHORITY__ISSUER", "STELLAOPS_AUTHORITY__RATELIMITING__PERMITLIMIT", "STELLAOPS_AUTHORITY__PLUGINDIRECTORIES__0",
		"STELLAOPS_AUTHORITY__ITEMS__0__WINDOW", "STELLAOPS_AUTHORITY__LABELS__NAME", "STELLAOPS_AUTHORITY__AT",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing in %v", want, got)
		}
	}
}
