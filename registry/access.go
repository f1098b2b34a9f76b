package registry

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mirror-appliance/appliance/internal/plain"
)

const (
	// accessDelay is how long a line waits for others. By so much it is behind the lines of other
	// logs, and so much of it a crash loses.
	accessDelay = 100 * time.Millisecond
	// accessFull is the number of bytes that wait no longer.
	accessFull = 64 << 10
)

// NewAccessLog returns a log for Options.AccessLog whose lines are written to w many at once, as
// text or json, with or without a time. end writes the rest. Errors and audits, which must not
// wait, do not belong into this log.
func NewAccessLog(w io.Writer, format string, timed bool) (log *slog.Logger, end func() error) {
	b := &lines{w: w}
	b.timer = time.AfterFunc(accessDelay, b.flush)
	options := &slog.HandlerOptions{ReplaceAttr: plain.Attr}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(b, options)), b.Close
	}
	if !timed {
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return plain.Attr(groups, a)
		}
	}
	return slog.New(&accessHandler{slog.NewTextHandler(b, options), b, timed}), b.Close
}

// accessLine is a request in the access log.
type accessLine struct {
	at             time.Time
	method, path   string
	status         int
	sent, received int64
	took           time.Duration
	user, remote   string
	agent          string
}

// logAccess writes a line. slog takes nine allocations and a system call for it, a sixth of the
// cost of a manifest, so the handler of NewAccessLog formats it itself.
func logAccess(ctx context.Context, log *slog.Logger, l accessLine) {
	if h, ok := log.Handler().(*accessHandler); ok {
		h.lines.append(func(dst []byte) []byte { return l.appendText(dst, h.timed) })
		return
	}
	log.LogAttrs(ctx, slog.LevelInfo, "request", slog.String("method", l.method),
		slog.String("path", l.path), slog.Int("status", l.status), slog.Int64("bytes", l.sent),
		slog.Int64("received", l.received), slog.Duration("duration", l.took),
		slog.String("user", l.user), slog.String("remote", l.remote), slog.String("agent", l.agent))
}

// accessHandler is a slog.TextHandler that writes an accessLine without slog.
type accessHandler struct {
	slog.Handler
	lines *lines
	timed bool
}

// appendText appends a line as slog.TextHandler writes it.
func (l *accessLine) appendText(dst []byte, timed bool) []byte {
	if timed {
		dst = append(dst, "time="...)
		dst = l.at.AppendFormat(dst, "2006-01-02T15:04:05.000Z07:00")
		dst = append(dst, ' ')
	}
	dst = append(dst, "level=INFO msg=request method="...)
	dst = appendField(dst, l.method)
	dst = append(dst, " path="...)
	dst = appendField(dst, l.path)
	dst = append(dst, " status="...)
	dst = strconv.AppendInt(dst, int64(l.status), 10)
	dst = append(dst, " bytes="...)
	dst = strconv.AppendInt(dst, l.sent, 10)
	dst = append(dst, " received="...)
	dst = strconv.AppendInt(dst, l.received, 10)
	dst = append(dst, " duration="...)
	dst = append(dst, l.took.String()...)
	dst = append(dst, " user="...)
	dst = appendField(dst, l.user)
	dst = append(dst, " remote="...)
	dst = appendField(dst, l.remote)
	dst = append(dst, " agent="...)
	dst = appendField(dst, l.agent)
	return append(dst, '\n')
}

func appendField(dst []byte, s string) []byte {
	if s = plain.Field(s); quoted(s) {
		return strconv.AppendQuote(dst, s)
	}
	return append(dst, s...)
}

// quoted reports whether slog.TextHandler quotes a value.
func quoted(s string) bool {
	for i := 0; i < len(s); {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			if r, size = utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError || !unicode.IsPrint(r) {
				return true
			}
		} else if r <= ' ' || r == '=' || r == '"' {
			return true
		}
		i += size
	}
	return s == ""
}

// lines collects whole lines and writes them when there are many, accessDelay after the first, and
// at the end. If w is slow, the line that fills the buffer waits for it.
type lines struct {
	w     io.Writer
	timer *time.Timer

	mu     sync.Mutex // guards what follows, and the order of writes
	buffer []byte
	closed bool
	err    error // of the last write
}

// append adds the line that add appends.
func (l *lines) append(add func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := len(l.buffer) == 0
	l.buffer = add(l.buffer)
	switch {
	case l.closed || len(l.buffer) >= accessFull:
		l.write()
	case first:
		l.timer.Reset(accessDelay)
	}
}

// Write implements io.Writer for a line.
func (l *lines) Write(p []byte) (int, error) {
	l.append(func(dst []byte) []byte { return append(dst, p...) })
	return len(p), nil
}

func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write()
}

// write writes the buffer; the caller holds mu. Lines that cannot be written are lost.
func (l *lines) write() {
	if len(l.buffer) > 0 {
		_, l.err = l.w.Write(l.buffer)
		l.buffer = l.buffer[:0]
	}
}

// Close writes the rest. Later lines are written at once.
func (l *lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.timer.Stop()
	l.write()
	return l.err
}
