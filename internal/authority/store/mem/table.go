package mem

import (
	"sync"

	"github.com/stella-ops/stella/internal/authority/store"
)

// table keeps documents by id; nobody else holds what is in it.
type table[T any] struct {
	clone func(*T) *T

	mu   sync.RWMutex
	rows map[string]*T
}

func newTable[T any](clone func(*T) *T) table[T] {
	return table[T]{clone: clone, rows: map[string]*T{}}
}

func (t *table[T]) get(id string) (*T, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	row, ok := t.rows[id]
	if !ok {
		return nil, store.ErrNotFound
	}
	return t.clone(row), nil
}

func (t *table[T]) create(id string, row *T) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.rows[id]; ok {
		return store.ErrExists
	}
	t.rows[id] = t.clone(row)
	return nil
}

func (t *table[T]) replace(id string, row *T) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.rows[id]; !ok {
		return store.ErrNotFound
	}
	t.rows[id] = t.clone(row)
	return nil
}

func (t *table[T]) remove(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.rows[id]; !ok {
		return store.ErrNotFound
	}
	delete(t.rows, id)
	return nil
}
