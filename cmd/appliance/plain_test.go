package main

import (
	"bytes"
	"testing"
)

// TestPlainWriter gives it what drives terminals, in pieces as well.
func TestPlainWriter(t *testing.T) {
	for text, want := range map[string]string{
		"a line\n\tand another\n":       "a line\n\tand another\n",
		"\x1b]0;title\x07\x1b[2J\rover": "?]0;title??[2J?over",
		"\u009b31m\u202ereversed":       "?31m?reversed",
		"grüße, 世界 \xff\ufffd":          "grüße, 世界 ?\ufffd",
	} {
		var whole, pieces bytes.Buffer
		one, many := &plainWriter{out: &whole}, &plainWriter{out: &pieces}
		if n, err := one.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
		for i := range len(text) {
			if _, err := many.Write([]byte{text[i]}); err != nil {
				t.Error(err)
			}
		}
		if whole.String() != want || pieces.String() != want {
			t.Errorf("%q became %q, in pieces %q; want %q", text, whole.String(), pieces.String(), want)
		}
	}
}
