package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ours is the name of what is compared with the peers, theFloor of what moves
// the bytes and nothing else.
const (
	ours     = "stella"
	theFloor = "floor"
)

// contestant is one way to bring the objects of a feed.
type contestant struct {
	name    string
	label   string
	program string // path; "" when it is not there
	version string
	noop    bool // can be run again over what it brought

	// args for a copy into target; env comes on top of the common one.
	args func(f *feed, target string) []string
	env  []string
	// tree is where the files are below target.
	tree func(target string) string

	full, again []sample
	left        string // why it takes no part any more
}

// contestants lists the floor, ours and the peers; those that are not on PATH
// have no program.
func (b *bench) contestants(ctx context.Context, only string) ([]*contestant, error) {
	root, err := url.Parse(b.server.Endpoint)
	if err != nil {
		return nil, err
	}
	root.User = url.UserPassword(b.server.AccessKey, b.server.SecretKey)
	plain := func(target string) string { return target }
	s3 := func(f *feed) string { return "s3://" + f.objects() + "/" }
	all := []*contestant{
		{name: theFloor, label: "floor: GET to nowhere, 16 at once", program: b.self, tree: nil, args: b.floorArgs},
		{name: ours, label: "stella mirror sync", program: b.stella, noop: true, args: b.stellaArgs,
			tree: func(target string) string { return filepath.Join(target, "concelier", "latest") }},
		{name: "aws", label: "aws s3 sync --delete --size-only", noop: true, tree: plain,
			args: func(f *feed, target string) []string {
				return []string{"--endpoint-url", b.server.Endpoint, "s3", "sync", "--delete", "--size-only", "--only-show-errors", s3(f), target}
			}},
		{name: "s5cmd", label: "s5cmd sync --delete --size-only", noop: true, tree: plain, env: []string{"S3_ENDPOINT_URL=" + b.server.Endpoint},
			args: func(f *feed, target string) []string {
				return []string{"--log", "error", "sync", "--delete", "--size-only", s3(f) + "*", target + "/"}
			}},
		{name: "rclone", label: "rclone sync --size-only --checkers 16 --transfers 16", noop: true, tree: plain, env: []string{
			"RCLONE_CONFIG_X_TYPE=s3", "RCLONE_CONFIG_X_PROVIDER=Other", "RCLONE_CONFIG_X_ENDPOINT=" + b.server.Endpoint,
			"RCLONE_CONFIG_X_ACCESS_KEY_ID=" + b.server.AccessKey, "RCLONE_CONFIG_X_SECRET_ACCESS_KEY=" + b.server.SecretKey, "RCLONE_CONFIG_X_REGION=" + b.server.Region,
		}, args: func(f *feed, target string) []string {
			return []string{"sync", "--size-only", "--checkers", "16", "--transfers", "16", "x:" + f.objects(), target}
		}},
		{name: "mc", label: "mc mirror --remove", noop: true, tree: plain, env: []string{"MC_HOST_x=" + root.String()},
			args: func(f *feed, target string) []string {
				return []string{"--quiet", "mirror", "--remove", "x/" + f.objects() + "/", target + "/"}
			}},
	}
	var take []*contestant
	for _, c := range all {
		if !wanted(only, c.name) {
			continue
		}
		take = append(take, c)
		if c.program == "" {
			if c.program, err = exec.LookPath(c.name); err != nil {
				c.left = "absent"
				continue
			}
		}
		if c.program, err = filepath.Abs(c.program); err != nil {
			return nil, err
		}
		if c.version, err = b.versionOf(ctx, c); err != nil {
			c.left = err.Error()
		}
	}
	return take, nil
}

// environment is all that a tool sees: an empty home of its own, and keys.
func (b *bench) environment(c *contestant) ([]string, error) {
	home := b.path("home", c.name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8",
		"AWS_ACCESS_KEY_ID=" + b.server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + b.server.SecretKey, "AWS_REGION=" + b.server.Region,
		"AWS_DEFAULT_REGION=" + b.server.Region, "AWS_EC2_METADATA_DISABLED=true",
	}, c.env...), nil
}

// versionOf reads what a Go program was built from, or else asks: the first
// line that it prints.
func (b *bench) versionOf(ctx context.Context, c *contestant) (string, error) {
	if c.name == theFloor {
		return "", nil
	}
	if info, err := buildinfo.ReadFile(c.program); err == nil && strings.HasPrefix(info.Main.Version, "v") {
		return info.Main.Version + ", " + info.GoVersion, nil
	}
	cmd := exec.CommandContext(ctx, c.program, "--version")
	var err error
	if cmd.Env, err = b.environment(c); err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", c.name, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line, nil
}

// stellaArgs writes a configuration for one target.
func (b *bench) stellaArgs(f *feed, target string) []string {
	return []string{"mirror", "sync", "--config", target + ".yaml"}
}

func (b *bench) configure(f *feed, target string) error {
	return os.WriteFile(target+".yaml", fmt.Appendf(nil, `mirror:
  root: %q
  trust_policy: %q
  feeds:
  - {name: concelier, source: %q}
  s3:
    region: %s
    endpoint: %s
    path_style: true
    access_key_id: env:AWS_ACCESS_KEY_ID
    secret_access_key: env:AWS_SECRET_ACCESS_KEY
`, target, b.policy(), f.latest(), b.server.Region, b.server.Endpoint), 0o600)
}
