package audit

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// message is the message of the lines that are the audit.
const message = "audit"

const (
	maxText    = 1000 // bytes of one value: clients choose paths and names
	maxDetails = 16
)

// Handler returns a handler that passes all lines to next, and keeps the audit among them.
func (l *Log) Handler(next slog.Handler) slog.Handler { return &tee{Handler: next, log: l} }

// tee is a slog.Handler.
type tee struct {
	slog.Handler
	log   *Log
	attrs []slog.Attr // of WithAttrs
}

// Enabled implements slog.Handler. The audit is kept also where the journal has only worse.
func (t *tee) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || t.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == message {
		t.log.add(t.record(r))
	}
	if !t.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &tee{t.Handler.WithAttrs(attrs), t.log, slices.Concat(t.attrs, attrs)}
}

// WithGroup implements slog.Handler. The audit has no groups.
func (t *tee) WithGroup(name string) slog.Handler {
	return &tee{t.Handler.WithGroup(name), t.log, t.attrs}
}

// record returns a line as it is kept.
func (t *tee) record(r slog.Record) store.AuditRecord {
	kept := store.AuditRecord{At: r.Time, Kind: api.AuditControl, Outcome: api.AuditDone, Details: map[string]string{}}
	take := func(a slog.Attr) bool {
		text := short(a.Value.Resolve().String())
		switch {
		case a.Key == "event":
			kept.Event = text
		case a.Key == "user":
			kept.User = text
		case a.Key == "remote":
			kept.Remote = text
		case text != "" && len(kept.Details) < maxDetails:
			kept.Details[a.Key] = text
		}
		return true
	}
	for _, a := range t.attrs {
		take(a)
	}
	r.Attrs(take)
	if _, is := kept.Details["repository"]; is {
		kept.Kind = api.AuditContent
	}
	if r.Level >= slog.LevelWarn {
		kept.Kind, kept.Outcome = api.AuditAccess, api.AuditRefused
	}
	return kept
}

// short returns valid text, and of a long one the beginning.
func short(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
