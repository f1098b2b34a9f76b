package misses

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// notes are a store's, in memory.
type notes map[string]string

func (n notes) Note(_ context.Context, name string) (string, error) { return n[name], nil }

func (n notes) SetNote(_ context.Context, name, text string) error {
	n[name] = text
	return nil
}

func none(context.Context, string, string) bool { return false }

func list(t *testing.T, l *Log, held func(context.Context, string, string) bool) []api.Miss {
	t.Helper()
	all, err := l.List(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLog(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	kept := notes{}
	open := func() *Log {
		return Open(t.Context(), kept, nil, slog.New(slog.DiscardHandler), func() time.Time { return now })
	}
	l := open()
	l.Missed("a", "v1", "node", "192.0.2.1:5000")
	now = now.Add(time.Hour)
	l.Missed("a", "v1", "other", "[2001:db8::1]:5000")
	l.Missed("b", "sha256:"+strings.Repeat("a", 64), "node", "192.0.2.1:5000")
	for _, suffix := range []string{".sig", ".att", ".sbom", ""} {
		l.Missed("a", "sha256-"+strings.Repeat("a", 64)+suffix, "node", "192.0.2.1:5000")
	}
	check := func(when string) {
		t.Helper()
		all := list(t, l, none)
		if len(all) != 2 || all[0].Repository != "a" || all[0].Count != 2 || !all[0].First.Equal(now.Add(-time.Hour)) || !all[0].Last.Equal(now) ||
			all[0].User != "other" || all[0].Address != "2001:db8::1" || all[1].Repository != "b" {
			t.Errorf("%s: %+v", when, all)
		}
	}
	check("at first")
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := l.Keep(ctx); err != nil {
		t.Error(err)
	}
	l = open()
	check("after a restart")
	if all := list(t, l, func(_ context.Context, repository, _ string) bool { return repository == "a" }); len(all) != 1 || all[0].Repository != "b" {
		t.Errorf("while one is held: %+v", all)
	}
	if all := list(t, l, none); len(all) != 1 {
		t.Errorf("once it was held: %+v", all)
	}
	if err := l.Clear(t.Context()); err != nil {
		t.Error(err)
	}
	if all := list(t, open(), none); len(all) != 0 {
		t.Errorf("cleared: %+v", all)
	}
}

// Clients choose the names, so that the list is bounded: the latest stay.
func TestLog_isBounded(t *testing.T) {
	now := time.Now()
	l := Open(t.Context(), notes{}, nil, slog.New(slog.DiscardHandler), func() time.Time { return now })
	for i := range 3 * most {
		now = now.Add(time.Second)
		l.Missed("a", fmt.Sprint("v", i), "node", "192.0.2.1:5000")
	}
	all := list(t, l, none)
	if len(all) > most || len(all) < most/2 || all[0].Reference != fmt.Sprint("v", 3*most-1) {
		t.Errorf("%d are kept, the last is %+v", len(all), all[0])
	}
}
