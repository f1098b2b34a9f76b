package plain

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ünïcode": "plain, ünïcode", "a\tb\n": "a\tb\n", "\x1b[2Jx": `\x1b[2Jx`, "\x9b2J": `\x9b2J`,
		"\u009b2J": `\u009b2J`, "\u202eback": `\u202eback`, "bell\a\x7f\r": `bell\a\u007f\r`, "tag\U000e0001": `tag\udb40\udc01`,
	} {
		if got := Text(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
	if got := Line("a\nb"); got != `a\nb` {
		t.Errorf("a line is %q", got)
	}
	for _, in := range []string{strings.Repeat("x", 1000), strings.Repeat("ü", 200), strings.Repeat("\x1b", 200), strings.Repeat("\xff", 1000)} {
		if got := Field(in); len(got) > MaxField || len(got) < MaxField-2*len(more) || !strings.Contains(got, more) || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}

func TestField_keepsBothEnds(t *testing.T) {
	got := Field("copy blob: " + strings.Repeat("x", 1000) + ": out of order")
	if !strings.HasPrefix(got, "copy blob: x") || !strings.HasSuffix(got, "x: out of order") {
		t.Errorf("kept is %q", got)
	}
}

func TestAttr(t *testing.T) {
	const evil = "\x1b]0;owned\a\nlevel=ERROR"
	long := evil + strings.Repeat("x", 1000)
	var out bytes.Buffer
	options := &slog.HandlerOptions{ReplaceAttr: Attr, AddSource: true}
	for name, h := range map[string]slog.Handler{"text": slog.NewTextHandler(&out, options), "json": slog.NewJSONHandler(&out, options)} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			slog.New(h).With("with", long).WithGroup("g").Error(long, "string", long, "error", errors.New(long), "list", []string{long},
				slog.Group("inner", "x", long, evil, 1))
			line, ended := strings.CutSuffix(out.String(), "\n")
			if !ended || strings.ContainsFunc(line, unicode.IsControl) || len(line) > 7*2*MaxField || !strings.Contains(line, more) {
				t.Errorf("%d bytes: %s", len(line), line)
			}
		})
	}
}

// TestWriter gives it what drives terminals, in pieces as well.
func TestWriter(t *testing.T) {
	for text, want := range map[string]string{
		"a line\n\tand another\n":       "a line\n\tand another\n",
		"\x1b]0;title\x07\x1b[2J\rover": `\x1b]0;title\a\x1b[2J\rover`,
		"\u009b31m\u202ereversed":       `\u009b31m\u202ereversed`,
		"grüße, 世界 \xff\ufffd":          `grüße, 世界 \xff` + "\ufffd",
		"\U000e0001 \U0001f600":         `\udb40\udc01 ` + "\U0001f600",
		"a\xf0\x9fb\xe4\xbd":            `a\xf0\x9fb`, // the last may become a character yet
	} {
		var whole, pieces bytes.Buffer
		one, many := NewWriter(&whole), NewWriter(&pieces)
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
	var out bytes.Buffer
	if err := json.NewEncoder(NewWriter(&out)).Encode("\x7f\u009b\U000e0001\u202e\x1b\n"); err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != "\x7f\u009b\U000e0001\u202e\x1b\n" {
		t.Errorf("JSON became %q, which is %q, %v", out.String(), back, err)
	}
}
