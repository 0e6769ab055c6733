package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/s3"
)

// getters is how many objects the floor reads at once.
const getters = 16

// floorFlags are those of the program when it is the floor: the other
// contestants are processes too.
type floorFlags struct {
	on       bool
	endpoint string
	region   string
	place    string
	keys     string
}

func (f *floorFlags) add() {
	flag.BoolVar(&f.on, "floor", false, "be the floor: read the objects named in the file of -keys and throw them away")
	flag.StringVar(&f.endpoint, "endpoint", "", "with -floor: URL of the gateway; keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	flag.StringVar(&f.region, "region", "", "with -floor: its region")
	flag.StringVar(&f.place, "place", "", "with -floor: s3://BUCKET/PREFIX")
	flag.StringVar(&f.keys, "keys", "", "with -floor: file with a key on each line")
}

// floorArgs makes this program the floor. It is told the keys: it lists nothing.
func (b *bench) floorArgs(f *feed, _ string) []string {
	return []string{"-floor", "-endpoint", b.server.Endpoint, "-region", b.server.Region, "-place", "s3://" + f.objects(), "-keys", b.keys(f)}
}

func (b *bench) keys(f *feed) string { return b.path(f.name + ".keys") }

func (b *bench) writeKeys(f *feed) error {
	return os.WriteFile(b.keys(f), []byte(strings.Join(slices.Sorted(maps.Keys(f.digests)), "\n")), 0o600)
}

// runFloor reads every object once, several at a time, and looks at nothing.
func runFloor(ctx context.Context, o options) error {
	list, err := os.ReadFile(o.floor.keys)
	if err != nil {
		return err
	}
	place, err := objstore.Parse(o.floor.place)
	if err != nil {
		return err
	}
	store, err := s3.Open(ctx, place, s3.Options{
		Region: o.floor.region, Endpoint: o.floor.endpoint, PathStyle: true, MaxConns: getters,
		Credentials: s3.Static(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
	})
	if err != nil {
		return err
	}
	defer store.Close()
	queue := make(chan string)
	errs := make([]error, getters)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for key := range queue {
				if err := discard(ctx, store, key); err != nil {
					errs[i] = fmt.Errorf("reading %q: %w", key, err)
				}
			}
		})
	}
	for key := range strings.SplitSeq(string(list), "\n") {
		queue <- key
	}
	close(queue)
	wg.Wait()
	return errors.Join(errs...)
}

func discard(ctx context.Context, store objstore.Reader, key string) error {
	o, err := store.Open(ctx, key, objstore.Get{})
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, o.Body)
	if err == nil && n != o.Size {
		err = fmt.Errorf("%d of %d bytes", n, o.Size)
	}
	return closed(o.Body, err)
}
