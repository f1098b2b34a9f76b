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
		"two\u2028lines\u2029": `two\u2028lines\u2029`,
	} {
		if got := Text(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
	if got := Line("a\nb"); got != `a\nb` {
		t.Errorf("a line is %q", got)
	}
	for _, in := range []string{strings.Repeat("x", 1000), strings.Repeat("ü", 400), strings.Repeat("\x1b", 400), strings.Repeat("\xff", 1000)} {
		if got := Field(in); len(got) > maxField || len(got) < maxField-2*len(more) || !strings.Contains(got, more) || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
	for lead := range 4 { // wherever it is cut, a character stays whole
		if got := Field(strings.Repeat("x", lead) + strings.Repeat("\U0001f600", 200)); strings.Contains(got, `\x`) || len(got) > maxField {
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

// TestAttr gives each kind of field what drives a terminal and begins a line, and
// what is only long.
func TestAttr(t *testing.T) {
	options := &slog.HandlerOptions{ReplaceAttr: Attr, AddSource: true}
	for _, bad := range []string{"\x1b]0;owned\a\nlevel=ERROR", strings.Repeat("x", 1000)} {
		for name, log := range map[string]func(*slog.Logger){
			"message":   func(l *slog.Logger) { l.Info(bad) },
			"key":       func(l *slog.Logger) { l.Info("", bad, 1) },
			"string":    func(l *slog.Logger) { l.Info("", "a", bad) },
			"error":     func(l *slog.Logger) { l.Info("", "a", errors.New(bad)) },
			"list":      func(l *slog.Logger) { l.Info("", "a", []string{bad}) },
			"attribute": func(l *slog.Logger) { l.With("a", bad).Info("") },
			"group":     func(l *slog.Logger) { l.WithGroup("g").Info("", slog.Group("inner", "a", bad)) },
		} {
			t.Run(name, func(t *testing.T) {
				var text, object bytes.Buffer
				log(slog.New(slog.NewTextHandler(&text, options)))
				log(slog.New(slog.NewJSONHandler(&object, options)))
				line, ended := strings.CutSuffix(text.String(), "\n")
				if !ended || strings.ContainsFunc(line, unicode.IsControl) || strings.Count(line, "x") > maxField {
					t.Errorf("%d bytes: %s", len(line), line)
				}
				var fields map[string]any
				if err := json.Unmarshal(object.Bytes(), &fields); err != nil {
					t.Fatal(err)
				}
				for _, s := range texts(fields) {
					if len(s) > maxField || strings.ContainsFunc(s, unicode.IsControl) {
						t.Errorf("a field has %d bytes: %q", len(s), s)
					}
				}
				if source, ok := fields["source"].(map[string]any); fields["level"] != "INFO" || !ok || source["line"] == nil {
					t.Errorf("level and source are %v, %v", fields["level"], fields["source"])
				}
			})
		}
	}
}

// texts are the keys and strings in what JSON has become.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case string:
		all = append(all, v)
	case []any:
		for _, e := range v {
			all = append(all, texts(e)...)
		}
	case map[string]any:
		for key, e := range v {
			if key != "source" { // which no other writes
				all = append(append(all, key), texts(e)...)
			}
		}
	}
	return all
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

func TestList(t *testing.T) {
	for n, want := range map[int]string{1: "a and 2 more", 2: "a, b and 1 more", 3: "a, b, c"} {
		if got := List([]string{"a", "b", "c"}, n); got != want {
			t.Errorf("%d of them: %q", n, got)
		}
	}
}
