package mem_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stella-ops/stella/internal/objstore"
	"github.com/stella-ops/stella/internal/objstore/mem"
	"github.com/stella-ops/stella/internal/objstore/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) objstore.Store { return mem.New("test") })
}

// TestHook: each operation fails with its effect, and without it.
func TestHook(t *testing.T) {
	boom := errors.New("injected")
	for _, apply := range []bool{false, true} {
		s := mem.New("test")
		storetest.Put(t, s, "old", []byte("old"))
		s.Hook = func(objstore.Op, string) (bool, error) { return apply, boom }
		_, put := s.Put(t.Context(), "new", strings.NewReader("new"), 3)
		_, get := s.Open(t.Context(), "old", objstore.Get{})
		listed := 0
		list := s.List(t.Context(), "", func(objstore.Info) error { listed++; return nil })
		del := s.Delete(t.Context(), "old")
		for op, err := range map[string]error{"put": put, "get": get, "list": list, "delete": del} {
			if !errors.Is(err, boom) {
				t.Errorf("%s: %v", op, err)
			}
		}
		s.Hook = nil
		_, hasNew := s.Open(t.Context(), "new", objstore.Get{})
		_, hasOld := s.Open(t.Context(), "old", objstore.Get{})
		if (hasNew == nil) != apply || (hasOld == nil) == apply || (listed == 2) != apply {
			t.Errorf("apply %v: new %v, old %v, listed %d", apply, hasNew, hasOld, listed)
		}
	}
}
