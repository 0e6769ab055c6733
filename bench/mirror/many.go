package main

import (
	"context"
	"fmt"
	"time"

	"github.com/stella-ops/stella/internal/testenv/exports"
)

// scale compares our no-op over a release of many members with that over a
// small one, in turn, each over a mirror that is up to date.
func (b *bench) scale(ctx context.Context, o options, small *feed) error {
	began := time.Now()
	big, err := b.publish(ctx, "many", exports.Files{Count: o.many, Bytes: 64})
	if err != nil {
		return fmt.Errorf("publishing %d members: %w", o.many, err)
	}
	fmt.Printf("\nno-op of ours by the size of the release; the bigger one was published in %.0f s\n", time.Since(began).Seconds())
	feeds := []*feed{small, big}
	targets, taken := make([]string, len(feeds)), make([][]sample, len(feeds))
	c := &contestant{name: ours, program: b.stella, args: b.stellaArgs}
	for i, f := range feeds {
		if targets[i], err = b.target(f); err != nil {
			return err
		}
		s, err := b.measure(ctx, c, f, targets[i])
		if err != nil {
			return err
		}
		fmt.Printf("  %7d files brought, once: %.1f s, CPU %.1f s, %.1f MiB\n", len(f.digests), s.wall.Seconds(), s.cpu.Seconds(), mib(s.peak))
	}
	if err := flush(b.dir); err != nil {
		return err
	}
	for round := range o.noops + 1 {
		for i := range feeds {
			k := (i + round) % len(feeds)
			s, err := b.measure(ctx, c, feeds[k], targets[k])
			if err != nil {
				return err
			}
			if round > 0 {
				taken[k] = append(taken[k], s)
			}
		}
	}
	for i, f := range feeds {
		fmt.Printf("  %7d files: %s ms, CPU %s ms, %s MiB; %d runs\n", len(f.digests), spread(walls(taken[i]), 1),
			spread(column(taken[i], func(s sample) float64 { return 1000 * s.cpu.Seconds() }), 1), spread(column(taken[i], func(s sample) float64 { return mib(s.peak) }), 1), o.noops)
	}
	r := median(walls(taken[1])) / median(walls(taken[0]))
	cpu := func(s sample) float64 { return s.cpu.Seconds() }
	fmt.Printf("  no-op with %d files at most %.1f of that with %d: %.2f, %s; CPU %.2f\n", len(big.digests), targetScale, len(small.digests), r, met(r <= targetScale),
		median(column(taken[1], cpu))/median(column(taken[0], cpu)))
	return nil
}
