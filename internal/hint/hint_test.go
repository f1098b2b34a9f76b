package hint_test

import (
	"errors"
	"fmt"
	"os/exec"
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

// A shell takes each word as it is.
func TestWords(t *testing.T) {
	for _, word := range []string{"/etc/a.yaml", "", "/a b", "it's", `a"b\`, "$HOME", "`id`", "a;b&c|d<e>f", "~", "*?[a]", "#", "!", "a\nb", "ä", "{a,b}", "(/.*)?"} {
		out, err := exec.Command("sh", "-c", "printf %s "+hint.Words(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q as %s becomes %q, %v", word, hint.Words(word), out, err)
		}
	}
	if got := hint.Words("chmod", "600", "/a b"); got != "chmod 600 '/a b'" {
		t.Errorf("the words are %s", got)
	}
	if got := hint.Words("/etc/x_1-2.yaml"); got != "/etc/x_1-2.yaml" {
		t.Errorf("a plain path is %s", got)
	}
}
