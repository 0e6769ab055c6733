package objstore

import (
	"context"
)

// Offline returns a Reader of place whose every call fails with ErrOffline and
// that opens no socket. It stands in for s3:// and https:// places when the
// operator said --offline; a file:// place needs no stand-in.
func Offline(place Place) Reader { return offline{place} }

type offline struct{ place Place }

func (o offline) Open(_ context.Context, key string, _ Get) (*Object, error) {
	return nil, o.refuse(OpRead, key)
}

func (o offline) List(_ context.Context, prefix string, _ func(Info) error) error {
	return o.refuse(OpList, prefix)
}

func (o offline) Place() string { return o.place.String() }

func (o offline) refuse(op Op, key string) error {
	return Fail(op, o.Place(), key, ErrOffline, nil).
		Hint("run without --offline, or carry the files over and use file:///PATH")
}
