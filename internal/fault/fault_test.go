package fault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stella-ops/stella/internal/fault"
)

func TestTable(t *testing.T) {
	codes, names := map[int]bool{}, map[string]bool{}
	last := -1
	for i, row := range fault.Table() {
		if int(row.Kind) != i {
			t.Errorf("row %d holds kind %d", i, row.Kind)
		}
		if row.Code <= last || row.Code > 255 {
			t.Errorf("code %d after %d", row.Code, last)
		}
		last = row.Code
		if codes[row.Code] || names[row.Name] || row.Name == "" || row.Meaning == "" || row.Origin != "platform" && row.Origin != "stella" {
			t.Errorf("bad row %+v", row)
		}
		codes[row.Code], names[row.Name] = true, true
		if row.Kind.ExitCode() != row.Code || row.Kind.String() != row.Name {
			t.Errorf("kind %d says %d %s", row.Kind, row.Kind.ExitCode(), row.Kind)
		}
	}
	fault.Table()[0].Code = 99
	if fault.None.ExitCode() != 0 {
		t.Error("the table can be changed from outside")
	}
	if got := fault.Kind(200).ExitCode(); got != 1 {
		t.Errorf("an unknown kind exits with %d", got)
	}
}

func TestKindOf(t *testing.T) {
	trust := fault.Errorf(fault.Trust, "bad")
	for want, err := range map[fault.Kind]error{
		fault.None:         nil,
		fault.Unclassified: errors.New("x"),
		fault.Trust:        fmt.Errorf("verifying: %w", trust),
		fault.Partial:      fault.Errorf(fault.Partial, "half: %w", trust), // the outermost counts
		fault.Transient:    fmt.Errorf("asking: %w", context.DeadlineExceeded),
		fault.Interrupted:  fmt.Errorf("asking: %w", context.Canceled),
		fault.Locked:       fault.As(fault.Locked, errors.New("x")),
		fault.Order:        errors.Join(errors.New("x"), fault.Errorf(fault.Order, "y")),
	} {
		if got := fault.KindOf(err); got != want {
			t.Errorf("KindOf(%v) = %v, want %v", err, got, want)
		}
	}
	if fault.As(fault.Trust, nil) != nil {
		t.Error("As makes an error of nil")
	}
	if err := fault.As(fault.Config, trust); err.Error() != "bad" || !errors.Is(err, trust) {
		t.Errorf("As changes the text or the chain: %v", err)
	}
}

func TestHintsOf(t *testing.T) {
	in := fault.Errorf(fault.Trust, "in").Hint("in %d", 1).Hint("in 2")
	out := fault.Errorf(fault.Order, "out: %w", fmt.Errorf("mid: %w", in)).Hint("out")
	if got := fault.HintsOf(fmt.Errorf("top: %w", out)); !slices.Equal(got, []string{"out", "in 1", "in 2"}) {
		t.Errorf("hints are %q", got)
	}
	if got := fault.HintsOf(errors.New("x")); got != nil {
		t.Errorf("hints are %q", got)
	}
	joined := errors.Join(fault.Errorf(fault.Input, "a").Hint("ha"), fault.Errorf(fault.Input, "b").Hint("hb"))
	if got := fault.HintsOf(joined); !slices.Equal(got, []string{"ha", "hb"}) {
		t.Errorf("hints of joined errors are %q", got)
	}
}
