package main

import (
	"testing"
	"time"
)

func TestBuiltAt(t *testing.T) {
	t.Cleanup(func() { built = "" })
	for text, want := range map[string]time.Time{"": {}, "1790000000": time.Unix(1790000000, 0)} {
		if built = text; !builtAt().Equal(want) || !installerDeps().Built.Equal(want) {
			t.Errorf("%q: %s", text, builtAt())
		}
	}
}
