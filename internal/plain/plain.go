// Package plain makes text from outside fit for a terminal and for a log: names, paths, and errors
// of other registries may hold control characters, which a terminal obeys and which forge lines of
// a log, and be of any length.
package plain

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxField is how many bytes a field of a log line has at most: the reasons of three hosts of a database fit in.
const maxField = 512

const more = "..."

// Text returns s with control characters and invalid UTF-8 escaped. Line ends and tabs stay.
func Text(s string) string { return escape(s, func(r rune) bool { return r == '\n' || r == '\t' }) }

// Line is Text for what must stay on one line.
func Line(s string) string { return escape(s, func(rune) bool { return false }) }

// Field is Line with at most maxField bytes. What is too long is cut in its middle: an error says
// at its beginning what was attempted, and at its end why it failed.
func Field(s string) string {
	if s = Line(cut(s)); len(s) > maxField {
		s = cut(s) // escaping has made it longer
	}
	return s
}

// List names at most so many of all, and how many more there are.
func List(all []string, most int) string {
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

func cut(s string) string {
	if len(s) <= maxField {
		return s
	}
	head, tail := maxField/2, len(s)-(maxField/2-len(more))
	for i := 0; i < utf8.UTFMax && !utf8.RuneStart(s[head]); i++ {
		head--
	}
	for i := 0; i < utf8.UTFMax && !utf8.RuneStart(s[tail]); i++ {
		tail++
	}
	return s[:head] + more + s[tail:]
}

func escape(s string, stays func(rune) bool) string {
	if harmless(s, stays) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if harmful(r, size) && !stays(r) {
			b.WriteString(quote(r, s[:size]))
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// quote escapes a character as Go does, or as JSON does where JSON has it plain: JSON stays JSON.
func quote(r rune, s string) string {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	if r == 0x7f {
		return `\u007f`
	}
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}

func harmless(s string, stays func(rune) bool) bool {
	for i := 0; i < len(s); {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if harmful(r, size) && !stays(r) {
			return false
		}
		i += size
	}
	return true
}

// harmful reports control characters, those that change the direction of text, and invalid bytes.
func harmful(r rune, size int) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return r == utf8.RuneError && size == 1 || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Attr is for slog.HandlerOptions.ReplaceAttr: every field of a line, its message too, is a Field.
func Attr(_ []string, a slog.Attr) slog.Attr {
	if a.Key = Field(a.Key); a.Value.Kind() == slog.KindString {
		if s := a.Value.String(); len(s) > maxField || !harmless(s, func(rune) bool { return false }) {
			a.Value = slog.StringValue(Field(s))
		}
		return a
	}
	if a.Value.Kind() != slog.KindAny {
		return a
	}
	switch v := a.Value.Any().(type) {
	case slog.Level, *slog.Source:
	case error:
		a.Value = slog.StringValue(Field(v.Error()))
	default:
		a.Value = slog.StringValue(Field(fmt.Sprint(v)))
	}
	return a
}

// Writer writes Text. What comes in pieces is escaped as it would be whole.
type Writer struct {
	out  io.Writer
	rest []byte // the beginning of a character
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{out: w} }

func (w *Writer) Write(p []byte) (int, error) {
	text := append(w.rest, p...)
	whole := len(text)
	for i := max(0, whole-utf8.UTFMax+1); i < len(text); i++ {
		if utf8.RuneStart(text[i]) && !utf8.FullRune(text[i:]) {
			whole = i
		}
	}
	w.rest = append([]byte(nil), text[whole:]...)
	if _, err := io.WriteString(w.out, Text(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}
