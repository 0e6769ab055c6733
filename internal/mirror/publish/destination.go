package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stella-ops/stella/internal/mirror/fetch"
	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/release"
)

// Destination is where releases go: a Bucket or a Directory.
type Destination interface {
	// Place names it for messages.
	Place() string

	// begin keeps other publishers out, as far as that can be done, until end.
	begin(ctx context.Context, feed string) (end func() error, err error)
	// head reads what readers see; nil is no statement at all.
	head(ctx context.Context) (*pair, error)
	// export reads what is there of an export: its statement, nil if there is
	// none, and the names of all files.
	export(ctx context.Context, id string) (*pair, []string, error)
	// member reads a small member of an export.
	member(ctx context.Context, id, path string, limit int64) ([]byte, error)
	// put puts the release to its export id, durably; nobody is led there yet.
	put(ctx context.Context, p *parcel) error
	// show leads readers there. wrote says that it was not done before.
	show(ctx context.Context, p *parcel) (wrote bool, err error)
}

// latest is where readers begin.
const latest = "latest"

// copied is an object beside latest/ with the digest of the statement whose
// members all lie below latest/. It is removed before they are touched, so what
// it vouches for needs no copy.
const copied = latest + ".members"

// Bucket is a place in S3 or like it: releases lie below their export ids, and
// the objects latest/release.json and latest/release.json.jws lead there.
func Bucket(s objstore.Store) Destination { return &bucket{s} }

type bucket struct{ objstore.Store }

func (b *bucket) begin(context.Context, string) (func() error, error) {
	return func() error { return nil }, nil
}

func (b *bucket) head(ctx context.Context) (*pair, error) { return readPair(ctx, b.Store, latest) }

func (b *bucket) export(ctx context.Context, id string) (*pair, []string, error) {
	keys, err := listBelow(ctx, b.Store, id+"/")
	if err != nil || len(keys) == 0 {
		return nil, nil, err
	}
	p, err := readPair(ctx, b.Store, id)
	return p, keys, err
}

func (b *bucket) member(ctx context.Context, id, path string, limit int64) ([]byte, error) {
	return small(ctx, b.Store, id+"/"+path, limit)
}

// put writes members, then signatures, then the statement: where a statement
// is, all that it names is.
func (b *bucket) put(ctx context.Context, p *parcel) error {
	at := p.st.ExportID + "/"
	progress := p.meter(Uploaded)
	err := each(ctx, p.parallel, p.files, func(ctx context.Context, f *file) error {
		if err := send(ctx, b.Store, at+f.Path, f); err != nil {
			return err
		}
		progress(1, f.Size)
		return nil
	})
	if err != nil {
		return err
	}
	p.uploaded, p.sent = len(p.files), p.st.Bytes()
	if err := b.write(ctx, at+release.FileSignature, p.jws); err != nil {
		return err
	}
	return b.write(ctx, at+release.FileStatement, p.data)
}

func (b *bucket) write(ctx context.Context, key string, data []byte) error {
	_, err := b.Put(ctx, key, bytes.NewReader(data), int64(len(data)))
	return err
}

// show replaces the pair in three steps, each of which leaves a statement and
// signatures that fit: the signatures of both statements, the new statement,
// its signatures alone.
func (b *bucket) show(ctx context.Context, p *parcel) (wrote bool, err error) {
	if p.copies {
		if err := b.copyMembers(ctx, p); err != nil {
			return false, err
		}
		wrote = p.copied > 0
	}
	var has pair
	first := p.jws
	if p.shown != nil {
		has, first = p.shown.pair, p.both
	}
	steps := []struct {
		key       string
		data, was []byte
	}{
		{release.FileSignature, first, has.jws},
		{release.FileStatement, p.data, has.data},
		{release.FileSignature, p.jws, first},
	}
	for _, s := range steps {
		if bytes.Equal(s.data, s.was) {
			continue
		}
		if err := b.write(ctx, latest+"/"+s.key, s.data); err != nil {
			return wrote, err
		}
		wrote = true
	}
	if !p.copies {
		return wrote, nil
	}
	if err := b.removeOthers(ctx, p); err != nil {
		return wrote, err
	}
	wrote = wrote || p.removed > 0
	if p.vouched == release.Digest(p.data) {
		return wrote, nil
	}
	return wrote, b.write(ctx, copied, []byte(release.Digest(p.data)+"\n"))
}

// copyMembers copies the members below latest/ that are not there already.
func (b *bucket) copyMembers(ctx context.Context, p *parcel) error {
	marker, err := small(ctx, b.Store, copied, 1<<10)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return err
	}
	p.vouched = strings.TrimSpace(string(marker))
	unchanged := func(*file) bool { return false }
	if s := p.shown; s != nil && s.st != nil && p.vouched == release.Digest(s.data) {
		there := map[string]int64{}
		err := b.List(ctx, latest+"/"+release.Root, func(i objstore.Info) error {
			there[i.Key] = i.Size
			return nil
		})
		if err != nil {
			return err
		}
		unchanged = func(f *file) bool {
			was, ok := s.st.Find(f.Path)
			size, is := there[latest+"/"+f.Path]
			return ok && is && was == f.Member && size == f.Size
		}
	}
	var todo []*file
	for _, f := range p.files {
		if !unchanged(f) {
			todo = append(todo, f)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if err := b.Delete(ctx, copied); err != nil {
		return err
	}
	p.vouched = ""
	progress := p.meter(Copied)
	p.copied = len(todo)
	return each(ctx, p.parallel, todo, func(ctx context.Context, f *file) error {
		if err := send(ctx, b.Store, latest+"/"+f.Path, f); err != nil {
			return err
		}
		progress(1, f.Size)
		return nil
	})
}

// removeOthers removes what older releases have left below latest/.
func (b *bucket) removeOthers(ctx context.Context, p *parcel) error {
	keys, err := listBelow(ctx, b.Store, latest+"/"+release.Root)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, ok := p.st.Find(release.Root + key); ok {
			continue
		}
		if err := b.Delete(ctx, latest+"/"+release.Root+key); err != nil {
			return err
		}
		p.removed++
	}
	return nil
}

// listBelow lists keys without the prefix that they have. There may be a few
// more than a release has members.
func listBelow(ctx context.Context, r objstore.Reader, prefix string) ([]string, error) {
	var keys []string
	err := r.List(ctx, prefix, func(i objstore.Info) error {
		if len(keys) > 2*release.MaxMembers {
			return release.Refuse(release.TooLarge, "%s holds more than %d objects below %s", r.Place(), len(keys), prefix)
		}
		keys = append(keys, strings.TrimPrefix(i.Key, prefix))
		return nil
	})
	slices.Sort(keys)
	return keys, err
}

// readPair reads the statement in a folder and its signatures; nil if there is
// no statement. A missing signature file is an empty one.
func readPair(ctx context.Context, r objstore.Reader, folder string) (*pair, error) {
	data, err := small(ctx, r, folder+"/"+release.FileStatement, release.MaxStatement)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at what is there: %w", err)
	}
	jws, err := small(ctx, r, folder+"/"+release.FileSignature, release.MaxSignature)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return nil, fmt.Errorf("looking at what is there: %w", err)
	}
	return &pair{data, jws}, nil
}

// small reads a small object, again after passing failures.
func small(ctx context.Context, r objstore.Reader, key string, limit int64) ([]byte, error) {
	data, _, err := fetch.New(r, release.DefaultPolicy().Limits, fetch.Options{}).Small(ctx, key, limit, "")
	return data, err
}
