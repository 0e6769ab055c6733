package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// file copies one member into the folder that is being built.
func (d *Dir) file(ctx context.Context, name string, f *file) error {
	return d.step(stepWrite, name, func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		to, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		return errors.Join(f.copyTo(ctx, to), to.Close())
	})
}

// copyTo writes a member and checks that it was the member.
func (f *file) copyTo(ctx context.Context, w io.Writer) error {
	r := f.open(ctx)
	defer r.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, f.buffer())
	if err == nil && n != f.Size {
		err = fmt.Errorf("%d bytes were read of %d", n, f.Size)
	}
	if err != nil {
		return err
	}
	return r.whole()
}

// made is a member that is in memory.
type made struct{ *bytes.Reader }

func (made) Close() error { return nil }
func (made) whole() error { return nil }
