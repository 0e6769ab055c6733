package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// compare runs all contestants for the given number of rounds after one that
// warms caches and looks at what each of them brought.
func (b *bench) compare(ctx context.Context, rounds int, all []*contestant, f *feed) error {
	if err := b.writeKeys(f); err != nil {
		return err
	}
	fmt.Printf("\nwhat each brought, once, against the source by SHA-256; and whether its no-op left every file alone\n")
	for round := range rounds + 1 {
		for i := range all {
			c := all[(i+round)%len(all)]
			if c.left != "" {
				continue
			}
			err := b.once(ctx, c, f, round == 0)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil && (c.name == ours || c.name == theFloor):
				return err
			case err != nil:
				c.left = err.Error()
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d done\n", round, rounds)
	}
	report(all, rounds)
	return nil
}

// once runs a contestant into an empty target, and again over what it brought.
func (b *bench) once(ctx context.Context, c *contestant, f *feed, first bool) error {
	target, err := b.target(f)
	if err != nil {
		return err
	}
	defer func() {
		_ = os.RemoveAll(target)
		_ = flush(b.dir) // before the next one begins
	}()
	full, err := b.measure(ctx, c, f, target)
	if err != nil {
		return err
	}
	if err := flush(b.dir); err != nil {
		return err
	}
	if !c.noop {
		if !first {
			c.full = append(c.full, full)
		}
		return nil
	}
	root, err := filepath.EvalSymlinks(c.tree(target))
	if err != nil {
		return err
	}
	var before map[string]stamp
	if first {
		if before, err = stamps(root); err != nil {
			return err
		}
	}
	again, err := b.measure(ctx, c, f, target)
	if err != nil {
		return err
	}
	if first {
		return check(ctx, c, f, root, before)
	}
	c.full, c.again = append(c.full, full), append(c.again, again)
	return nil
}
