package main

import (
	"io"
	"unicode"
	"unicode/utf8"
)

// plain is std with output that cannot drive a terminal: what daemons and files say may hold control characters.
func (s stdio) plain() stdio {
	return stdio{in: s.in, out: &plainWriter{out: s.out}, err: &plainWriter{out: s.err}}
}

// plainWriter writes text with a question mark for each control character but the end of a line and the tabulator, and
// for each byte that is not UTF-8.
type plainWriter struct {
	out  io.Writer
	rest []byte // the beginning of a character
}

func (w *plainWriter) Write(p []byte) (int, error) {
	text := append(w.rest, p...)
	plain := make([]byte, 0, len(text))
	for len(text) > 0 && (utf8.FullRune(text) || len(text) >= utf8.UTFMax) {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n' || r == '\t' || r != utf8.RuneError && !unicode.IsControl(r) && !unicode.Is(unicode.Bidi_Control, r):
			plain = append(plain, text[:n]...)
		case r == utf8.RuneError && n == 3: // it is one that was written as such
			plain = append(plain, text[:n]...)
		default:
			plain = append(plain, '?')
		}
		text = text[n:]
	}
	w.rest = append([]byte(nil), text...)
	if _, err := w.out.Write(plain); err != nil {
		return 0, err
	}
	return len(p), nil
}
