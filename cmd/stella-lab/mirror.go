package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/release"
	"github.com/stella-ops/stella/internal/testenv/exports"
)

// mirrorSteps is the part of the tour about mirrors; it needs a lab's feeds alone.
func (t *tourist) mirrorSteps() []func(context.Context) error {
	return []func(context.Context) error{t.mirrored, t.verified, t.tampered, t.replayed, t.rolledBack, t.carried, t.pruned}
}

// shown is what `stella mirror status` says of one feed.
type shown struct {
	Feed    string `json:"feed"`
	Verdict string `json:"verdict"`
	Shown   struct {
		ExportID string `json:"export_id"`
		Sequence int64  `json:"sequence"`
		Members  int    `json:"members"`
	} `json:"shown"`
	Previous string   `json:"previous"`
	Releases []string `json:"releases"`
	Refused  *struct {
		Reason release.Reason `json:"reason"`
	} `json:"last_refusal"`
}

// feed reads how a feed stands as a script would.
func (t *tourist) feed(ctx context.Context, name string) (shown, error) {
	out, err := t.unseen(ctx, 0, "mirror", "status", "--feed", name, "--output", "json")
	if err != nil {
		return shown{}, err
	}
	var s struct {
		Feeds []shown `json:"feeds"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || len(s.Feeds) != 1 {
		return shown{}, fmt.Errorf("reading the status of feed %s: %d feeds, %w", name, len(s.Feeds), err)
	}
	return s.Feeds[0], nil
}

// stands insists on how a feed stands.
func (t *tourist) stands(ctx context.Context, name, verdict, export string) (shown, error) {
	s, err := t.feed(ctx, name)
	if err == nil && (s.Verdict != verdict || s.Shown.ExportID != export) {
		err = fmt.Errorf("feed %s is %s and shows %s; expected %s and %s", name, s.Verdict, s.Shown.ExportID, verdict, export)
	}
	return s, err
}

// publish makes the next export of a feed and publishes it.
func (t *tourist) publish(ctx context.Context, feed string) (id string, err error) {
	dir, id, err := t.feeds.export(ctx, feed)
	if err == nil {
		_, err = t.stella(ctx, 0, t.feeds.publishing(feed, dir)...)
	}
	return id, err
}

// mirrored: what is new comes in, what is not costs nothing.
func (t *tourist) mirrored(ctx context.Context) error {
	t.title("Feeds are published, and mirrored")
	if _, err := t.stella(ctx, 0, "mirror", "sync"); err != nil {
		return err
	}
	next := map[string]string{}
	for _, feed := range feedNames() {
		id, err := t.publish(ctx, feed)
		if err != nil {
			return err
		}
		next[feed] = id
	}
	requests := t.feeds.meter.watch()
	if _, err := t.stella(ctx, 0, "mirror", "sync"); err != nil {
		return err
	}
	fetched, members := map[string]bool{}, 0
	for _, r := range requests() {
		if strings.Contains(r.path, "/"+release.Root) {
			fetched[r.path] = true
		}
	}
	for feed, id := range next {
		s, err := t.stands(ctx, feed, "ok", id)
		if err != nil {
			return err
		}
		members += s.Shown.Members
	}
	if len(fetched) == 0 || len(fetched) >= members {
		return fmt.Errorf("%d of %d members were fetched for releases of which most did not change", len(fetched), members)
	}
	t.proved("a mirror takes new releases whole, of all feeds in one run", "%d feeds; %d of %d members fetched, the others had not changed", len(next), len(fetched), members)
	requests = t.feeds.meter.watch()
	if _, err := t.stella(ctx, 25, "mirror", "sync", "--detailed-exit"); err != nil {
		return err
	}
	n := len(requests())
	if n > 2*len(next) {
		return fmt.Errorf("%d requests for %d feeds of which nothing is new", n, len(next))
	}
	t.proved("nothing new costs next to nothing", "%d requests for %d feeds, exit 25", n, len(next))
	return nil
}

// verified: on disk without a network, and at the source.
func (t *tourist) verified(ctx context.Context) error {
	t.title("What is served is verified")
	requests := t.feeds.meter.watch()
	for _, args := range [][]string{{"mirror", "verify"}, {"--offline", "mirror", "verify"}} {
		if _, err := t.stella(ctx, 0, args...); err != nil {
			return err
		}
	}
	if asked := requests(); len(asked) > 0 {
		return fmt.Errorf("verifying what is on disk asked the source for %d things", len(asked))
	}
	if _, err := t.stella(ctx, 5, "--offline", "mirror", "verify", "--remote"); err != nil {
		return err
	}
	if _, err := t.stella(ctx, 0, "mirror", "verify", "--remote"); err != nil {
		return err
	}
	t.proved("every byte is verified again, on disk and at the source", "on disk with 0 requests; at the source with --offline: exit 5")
	return nil
}

// refusedSync insists that a sync of a feed is refused for a reason, and that
// what was served before is served and good.
func (t *tourist) refusedSync(ctx context.Context, feed string, reason release.Reason, still string) error {
	if _, err := t.stella(ctx, 21, "mirror", "sync", "--feed", feed); err != nil {
		return err
	}
	s, err := t.stands(ctx, feed, "refused", still)
	if err != nil {
		return err
	}
	if s.Refused == nil || s.Refused.Reason != reason {
		return fmt.Errorf("feed %s was refused with %+v, expected %s", feed, s.Refused, reason)
	}
	_, err = t.stella(ctx, 0, "mirror", "verify", "--feed", feed)
	return err
}

// tampered: somebody who can write to the bucket changes one byte.
func (t *tourist) tampered(ctx context.Context) error {
	t.title("An export is tampered with")
	feed := exports.Concelier
	before, err := t.feed(ctx, feed)
	if err != nil {
		return err
	}
	id, err := t.publish(ctx, feed)
	if err != nil {
		return err
	}
	key := feed + "/" + id + "/" + bundleMember
	data, err := t.feeds.read(ctx, key)
	if err != nil {
		return err
	}
	bad := slices.Clone(data)
	bad[len(bad)/2] ^= 1
	if err := t.feeds.write(ctx, key, bad); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "\n(one bit of %s in the bucket is changed; its size stays)\n", key)
	if err := t.refusedSync(ctx, feed, release.DigestMismatch, before.Shown.ExportID); err != nil {
		return err
	}
	if _, err := t.stella(ctx, 0, "mirror", "status", "--feed", feed); err != nil {
		return err
	}
	t.proved("a tampered export is refused, the last good one stays", "exit 21, %s; %s is served and verifies", release.DigestMismatch, before.Shown.ExportID)
	if err := t.feeds.write(ctx, key, data); err != nil {
		return err
	}
	fmt.Fprintln(t.out, "\n(the publisher puts the right bytes back)")
	if _, err := t.stella(ctx, 0, "mirror", "sync"); err != nil {
		return err
	}
	_, err = t.stands(ctx, feed, "ok", id)
	return err
}

// replayed: somebody shows a release of before, with its good signatures.
func (t *tourist) replayed(ctx context.Context) error {
	t.title("An old release is replayed")
	feed := exports.Concelier
	now, err := t.feed(ctx, feed)
	if err != nil {
		return err
	}
	if now.Previous == "" {
		return errors.New("there is no release before the one that is shown")
	}
	if err := t.lead(ctx, feed, now.Previous); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "\n(latest in the bucket leads to %s again)\n", now.Previous)
	if err := t.refusedSync(ctx, feed, release.Rollback, now.Shown.ExportID); err != nil {
		return err
	}
	t.proved("a replayed old release is refused, though its signatures are good", "exit 21, %s; %s after %s", release.Rollback, now.Previous, now.Shown.ExportID)
	if err := t.lead(ctx, feed, now.Shown.ExportID); err != nil {
		return err
	}
	fmt.Fprintln(t.out, "\n(latest leads to the new one again)")
	_, err = t.stella(ctx, 25, "mirror", "sync", "--feed", feed, "--detailed-exit")
	return err
}

// lead copies statement and signatures of a release to where mirrors look.
func (t *tourist) lead(ctx context.Context, feed, id string) error {
	for _, name := range []string{release.FileSignature, release.FileStatement} {
		data, err := t.feeds.read(ctx, feed+"/"+id+"/"+name)
		if err != nil {
			return err
		}
		if err := t.feeds.write(ctx, feed+"/latest/"+name, data); err != nil {
			return err
		}
	}
	return nil
}

// rolledBack: an operator goes back, and syncs do not undo it.
func (t *tourist) rolledBack(ctx context.Context) error {
	t.title("An operator goes back to the release before")
	feed := exports.Concelier
	was, err := t.feed(ctx, feed)
	if err != nil {
		return err
	}
	if _, err := t.stella(ctx, 0, "mirror", "rollback", "--feed", feed, "--reason", "the tour"); err != nil {
		return err
	}
	if _, err := t.stella(ctx, 25, "mirror", "sync", "--feed", feed, "--detailed-exit"); err != nil {
		return err
	}
	if _, err := t.stands(ctx, feed, "held", was.Previous); err != nil {
		return err
	}
	id, err := t.publish(ctx, feed)
	if err != nil {
		return err
	}
	if _, err := t.stella(ctx, 0, "mirror", "sync", "--feed", feed); err != nil {
		return err
	}
	if _, err := t.stands(ctx, feed, "ok", id); err != nil {
		return err
	}
	t.proved("a rollback holds until something newer comes", "%s → %s, over a sync; then %s", was.Shown.ExportID, was.Previous, id)
	return nil
}

// carried: a site without a network gets releases in parts, and no older ones.
func (t *tourist) carried(ctx context.Context) error {
	t.title("A release is carried over an air gap")
	feed := exports.Concelier
	s, err := t.feed(ctx, feed)
	if err != nil {
		return err
	}
	site := filepath.Join(t.Dir, "air-gapped")
	if err := os.Mkdir(site, 0o700); err != nil {
		return err
	}
	text, err := t.feeds.mirror(filepath.Join(site, "mirror"))
	if err != nil {
		return err
	}
	config := filepath.Join(site, "stella.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	inside := t.as([]string{"STELLA_CONFIG=" + config})
	stick, old := filepath.Join(t.Dir, "stick"), filepath.Join(t.Dir, "old-stick")
	if _, err := t.stella(ctx, 0, "mirror", "pack", "--feed", feed, "--to", stick, "--segment-size", "1MiB"); err != nil {
		return err
	}
	if _, err := t.stella(ctx, 0, "mirror", "pack", "--feed", feed, "--to", old, "--release", s.Previous); err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(stick, "segment-*"))
	if err != nil {
		return err
	}
	fmt.Fprintln(t.out, "\n(on the other side, which does not know where the bucket is)")
	requests := t.feeds.meter.watch()
	for _, typed := range []struct {
		exit int
		args []string
	}{
		{0, []string{"unpack", "--feed", feed, stick}},
		{0, []string{"verify", "--feed", feed}},
		{21, []string{"unpack", "--feed", feed, old}},
	} {
		if _, err := inside.stella(ctx, typed.exit, append([]string{"--offline", "mirror"}, typed.args...)...); err != nil {
			return err
		}
	}
	if _, err := inside.stands(ctx, feed, "refused", s.Shown.ExportID); err != nil {
		return err
	}
	if asked := requests(); len(asked) > 0 || len(segments) < 2 {
		return fmt.Errorf("%d segments, %d requests while unpacking", len(segments), len(asked))
	}
	t.proved("a release goes over an air gap, an older one does not", "%d segments of 1 MiB, verified inside; the older pack: exit 21", len(segments))
	return nil
}

// pruned: what is old goes, what is served stays.
func (t *tourist) pruned(ctx context.Context) error {
	t.title("Old releases are removed")
	before, err := t.feed(ctx, exports.Concelier)
	if err != nil {
		return err
	}
	for _, args := range [][]string{{"prune", "--keep", "2", "--grace", "0s"}, {"verify"}, {"status"}} {
		if _, err := t.stella(ctx, 0, append([]string{"mirror"}, args...)...); err != nil {
			return err
		}
	}
	after, err := t.stands(ctx, exports.Concelier, "ok", before.Shown.ExportID)
	if err != nil {
		return err
	}
	if len(after.Releases) >= len(before.Releases) || len(after.Releases) < 2 {
		return fmt.Errorf("%d releases, after the prune %d", len(before.Releases), len(after.Releases))
	}
	t.proved("old releases go, what is served stays and verifies", "%s: %d releases, then %d", exports.Concelier, len(before.Releases), len(after.Releases))
	return nil
}
