package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

func TestOf(t *testing.T) {
	plain := errors.New("no such file")
	inner := hint.New(plain, "name another file")
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"no error", nil, ""},
		{"no hint", plain, ""},
		{"a hint", inner, "name another file"},
		{"a hint below a prefix", fmt.Errorf("read: %w", inner), "name another file"},
		{"a hint among joined errors", errors.Join(plain, inner), "name another file"},
		{"the outermost of two", hint.New(inner, "see --help"), "see --help"},
		{"an empty one does not hide the next", hint.New(inner, ""), "name another file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := hint.Of(tc.err); got != tc.want {
				t.Errorf("hint %q, want %q", got, tc.want)
			}
		})
	}
}

func TestNew(t *testing.T) {
	cause := errors.New("no such file")
	err := hint.New(cause, "name another file")
	if err.Error() != cause.Error() {
		t.Errorf("text %q, want that of the cause", err)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}
