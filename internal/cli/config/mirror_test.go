package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stella-ops/stella/internal/fault"
	"github.com/stella-ops/stella/internal/mirror"
)

const goodMirror = `mirror:
  root: mirror
  trust_policy: trust.yaml
  metrics_file: /var/lib/node_exporter/stella.prom
  feeds:
  - name: advisories
    source: s3://bucket/advisories/latest
  - {name: plain, source: "file:///srv/plain", shape: tree}
  s3:
    endpoint: https://s3.example
    path_style: true
    ca_file: ca.pem
    access_key_id: file:id
    secret_access_key: cred:key
vantage_points: [{name: edge, url: "https://edge.example/jwks", ca_file: edge.pem}]
`

func TestMirrorSection(t *testing.T) {
	src := source(t)
	src.Path = place(t, t.TempDir(), "stella.yaml", goodMirror)
	dir := filepath.Dir(src.Path)
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	m := c.Mirror
	if m.Root != dir+"/mirror" || m.TrustPolicy != dir+"/trust.yaml" || m.S3.CAFile != dir+"/ca.pem" || string(m.S3.AccessKeyID) != "file:"+dir+"/id" || c.VantagePoints[0].CAFile != dir+"/edge.pem" {
		t.Errorf("relative paths are not relative to the file: %+v", m)
	}
	if m.Parallel != 16 || m.Settle.Std() != 15*time.Second || m.Keep != 5 || m.PruneGrace.Std() != time.Hour || m.MetricsFile != "/var/lib/node_exporter/stella.prom" {
		t.Errorf("defaults: %+v", m)
	}
	if len(m.Feeds) != 2 || m.Feeds[0].Shape != "" || m.Feeds[1].Shape != mirror.Tree {
		t.Errorf("%+v", m.Feeds)
	}
	want := Value{"mirror.feeds.1.source", "file:///srv/plain", "file " + src.Path + ":8"}
	if !slices.Contains(c.Values(), want) {
		t.Errorf("%+v is not among %+v", want, c.Values())
	}
	found := strings.Join(c.Findings(), "\n")
	for _, want := range []string{
		`mirror.trust_policy: "` + dir + `/trust.yaml" does not exist`, `mirror.root: "` + dir + `/mirror" does not exist`, `mirror.s3.ca_file`, `vantage_points.0.ca_file: "` + dir + `/edge.pem" does not exist`,
		`mirror.s3.access_key_id: "` + dir + `/id" does not exist`, `mirror.metrics_file: "/var/lib/node_exporter" does not exist`,
		"plain has shape tree: nothing of it can be verified",
	} {
		if !strings.Contains(found, want) {
			t.Errorf("no finding %q among\n%s", want, found)
		}
	}
}

func TestMirrorFindings(t *testing.T) {
	for text, want := range map[string]string{
		"{feeds: [{name: a, source: 's3://bbb/x'}]}":                                           "mirror.root is not set",
		"{root: /, feeds: [{name: a, source: 's3://bbb/x'}]}":                                  "mirror.trust_policy is not set",
		"{root: /, feeds: [{name: a, source: 's3://bbb/x'}, {name: b, source: 's3://bbb/x'}]}": "a and b have the same source",
		"{root: /}":          "mirror.feeds is empty",
		"{root: /, keep: 1}": "mirror.keep is 1",
		"{root: /, keep: 2}": "",
		"{s3: {endpoint: 'https://x.example'}, feeds: [{name: a, source: 'file:///x'}]}": "mirror.s3 is set",
		"{https: {token: 'env:X'}, feeds: [{name: a, source: 'file:///x'}]}":             "mirror.https has credentials",
		"{https: {token: 'env:X'}, feeds: [{name: a, source: 'https://x/y'}]}":           "",
	} {
		src := source(t)
		src.Path = place(t, t.TempDir(), "f.yaml", "mirror: "+text+"\n")
		c, err := Load(src)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		found := strings.Join(c.Findings(), "\n")
		if want != "" && !strings.Contains(found, want) || want == "" && (strings.Contains(found, "mirror.keep") || strings.Contains(found, "mirror.https")) {
			t.Errorf("%s: findings\n%s\nwant %q", text, found, want)
		}
	}
}

func TestMirrorRefusals(t *testing.T) {
	feeds := func(list string) string { return "mirror: {feeds: [" + list + "]}" }
	for text, want := range map[string]string{
		feeds("{name: A, source: 's3://bbb/x'}"):                                  `mirror.feeds.0.name: found "A"`,
		feeds("{name: a, source: 's3://bbb/x'}, {name: a, source: 's3://bbb/y'}"): `mirror.feeds.1.name: "a" is used twice`,
		feeds("{name: a}"): "mirror.feeds.0.source: place",
		feeds("{name: a, source: 'https://u:hunter2@x/y'}"):                 "user name or password",
		feeds("{name: a, source: 'http://x.example/y'}"):                    "loopback",
		feeds("{name: a, source: '/srv'}"):                                  "has no scheme | write s3://BUCKET/PREFIX",
		feeds("{name: a, source: 'https://x/y', shape: tree}"):              "mirror.feeds.0.shape: a tree cannot come from https://x/y",
		feeds("{name: a, source: 's3://bbb/x', shape: bush}"):               "allowed values: release, tree",
		feeds(strings.Repeat("{name: a, source: 's3://bbb/x'},", 65)):       "found 65 feeds",
		"mirror: {parallel: 0}":                                             "mirror.parallel: found 0; allowed: 1 to 256",
		"mirror: {parallel: 257}":                                           "mirror.parallel",
		"mirror: {settle: 00:00:00}":                                        "mirror.settle",
		"mirror: {settle: 11m}":                                             "mirror.settle",
		"mirror: {keep: 0}":                                                 "mirror.keep",
		"mirror: {prune_grace: 400.00:00:00}":                               "mirror.prune_grace",
		"mirror: {metrics_file: /x/y.txt}":                                  "mirror.metrics_file: found",
		"mirror: {s3: {endpoint: 'http://s3.example'}}":                     "mirror.s3.endpoint: found scheme",
		"mirror: {s3: {endpoint: 'https://s3.example/x'}}":                  "an endpoint has no path",
		"mirror: {s3: {region: 'EU West'}}":                                 "mirror.s3.region",
		"mirror: {s3: {access_key_id: 'env:A'}}":                            "it needs mirror.s3.secret_access_key",
		"mirror: {s3: {secret_access_key: 'env:A'}}":                        "it needs mirror.s3.access_key_id",
		"mirror: {s3: {secret_access_key: 'hunter2'}}":                      "not a secret reference",
		"mirror: {s3: {session_token: 'env:A'}}":                            "mirror.s3.session_token",
		"mirror: {https: {username: a}}":                                    "it needs mirror.https.password",
		"mirror: {https: {password: 'env:A'}}":                              "it needs mirror.https.username",
		"mirror: {https: {username: 'a:b', password: 'env:A'}}":             "no colon",
		"mirror: {https: {username: a, password: 'env:A', token: 'env:A'}}": "it excludes mirror.https.username",
		"mirror: {https: {token: 'env:A'}, feeds: [{name: a, source: 'https://x/y'}, {name: b, source: 'https://z/y'}]}": "sent to 2 hosts: x, z",
	} {
		src := source(t)
		src.Path = place(t, t.TempDir(), "f.yaml", text+"\n")
		_, err := Load(src)
		told := ""
		if err != nil {
			told = err.Error() + " | " + strings.Join(fault.HintsOf(err), " | ")
		}
		for _, want := range strings.Split(want, " | ") {
			if fault.KindOf(err) != fault.Config || !strings.Contains(told, want) || strings.Contains(told, "hunter2") {
				t.Errorf("%s: %q, want to find %q", text, told, want)
			}
		}
	}
	src := source(t, "STELLA_MIRROR_FEEDS=x")
	if _, err := Load(src); !strings.Contains(strings.Join(fault.HintsOf(err), " "), "mirror.feeds can be set in the configuration file only") {
		t.Errorf("%v %q", err, fault.HintsOf(err))
	}
}
