package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/diskspace"
)

// audited adds n records of a kind, a minute apart.
func (f *fixture) audited(kind string, n int) {
	f.t.Helper()
	for i := range n {
		f.must(f.Audit.Add(f.ctx, []AuditRecord{{Kind: kind, At: f.clock.add(time.Minute), Event: "push", User: fmt.Sprintf("u%d", i%2),
			Remote: "192.0.2.1:1", Outcome: "done", Details: map[string]string{"repository": fmt.Sprintf("A/<%d>", i)}}}))
	}
}

// seen returns the users of the records that a filter selects.
func (f *fixture) seen(filter AuditFilter, limit int) (seen string) {
	f.t.Helper()
	all, err := f.Audit.List(f.ctx, filter, limit)
	f.must(err)
	for _, r := range all {
		seen += r.Details["repository"] + r.User + " "
	}
	return seen
}

// Letters beyond ASCII are found as they are.
func TestAudit_findsAllLetters(t *testing.T) {
	f := newFixture(t)
	f.must(f.Audit.Add(f.ctx, []AuditRecord{{Kind: "administration", At: f.clock.now(), Event: "cluster attached", User: "x", Details: map[string]string{"name": "Ärzte Zürich"}}}))
	for text, want := range map[string]string{"Ärzte": "x ", "ÄRZTE z": "x ", "zürich": "x ", "Äpfel": ""} {
		if got := f.seen(AuditFilter{Text: text}, 9); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestAudit_List(t *testing.T) {
	f := newFixture(t)
	began := f.clock.now()
	f.audited("content", 3)
	f.must(f.Audit.Add(f.ctx, []AuditRecord{{Kind: "access", At: f.clock.now(), Event: "login failed", User: "x"}, {Kind: "access", At: f.clock.now(), Event: "refused", User: "y"}}))
	newest, err := f.Audit.List(f.ctx, AuditFilter{}, 9)
	f.must(err)
	if len(newest) != 5 {
		t.Fatalf("%d records", len(newest))
	}
	second, third := newest[3].ID, newest[2].ID // ids have gaps where a transaction ran again
	for what, tc := range map[string]struct {
		filter AuditFilter
		limit  int
		want   string
	}{
		"all, the newest first":  {AuditFilter{}, 9, "y x A/<2>u0 A/<1>u1 A/<0>u0 "},
		"a limit":                {AuditFilter{}, 2, "y x "},
		"what follows":           {AuditFilter{Before: third}, 2, "A/<1>u1 A/<0>u0 "},
		"of a kind":              {AuditFilter{Kind: "access"}, 9, "y x "},
		"of a user":              {AuditFilter{User: "u0"}, 9, "A/<2>u0 A/<0>u0 "},
		"of an event":            {AuditFilter{Event: "refused"}, 9, "y "},
		"by text of the details": {AuditFilter{Text: "a/<1"}, 9, "A/<1>u1 "},
		"by text of the address": {AuditFilter{Text: "192.0.2.1"}, 9, "A/<2>u0 A/<1>u1 A/<0>u0 "},
		"text is no pattern":     {AuditFilter{Text: "%"}, 9, ""},
		"since":                  {AuditFilter{From: began.Add(3 * time.Minute)}, 9, "y x A/<2>u0 "},
		"until":                  {AuditFilter{To: began.Add(3 * time.Minute)}, 9, "A/<1>u1 A/<0>u0 "},
		"since a far day":        {AuditFilter{From: began.AddDate(1000, 0, 0)}, 9, ""},
		"until a far day":        {AuditFilter{To: began.AddDate(1000, 0, 0)}, 1, "y "},
		"since long ago":         {AuditFilter{From: began.AddDate(-1000, 0, 0)}, 1, "y "},
		"until long ago":         {AuditFilter{To: began.AddDate(-1000, 0, 0)}, 9, ""},
	} {
		if got := f.seen(tc.filter, tc.limit); got != tc.want {
			t.Errorf("%s: %q, want %q", what, got, tc.want)
		}
	}
	f.reopen()
	all, err := f.Audit.List(f.ctx, AuditFilter{Before: second}, 9)
	f.must(err)
	if len(all) != 1 || !all[0].At.Equal(began.Add(time.Minute)) || all[0].Outcome != "done" || all[0].Remote != "192.0.2.1:1" || all[0].Event != "push" {
		t.Errorf("after a restart: %+v", all)
	}
}

func TestAudit_Trim(t *testing.T) {
	f := newFixture(t)
	began := f.clock.now()
	f.audited("content", 5)
	f.audited("access", 3)
	trim := func(kind string, most int, before time.Time, want int64) {
		t.Helper()
		if n, err := f.Audit.Trim(f.ctx, kind, most, before); n != want || err != nil {
			t.Errorf("%d removed, %v; want %d", n, err, want)
		}
	}
	trim("content", 5, began, 0)
	trim("content", 4, began, 1)
	if got := f.seen(AuditFilter{Kind: "content"}, 9); got != "A/<4>u0 A/<3>u1 A/<2>u0 A/<1>u1 " {
		t.Errorf("beyond the most: %q left", got)
	}
	trim("content", 4, began.Add(4*time.Minute), 2)
	if got := f.seen(AuditFilter{Kind: "content"}, 9); got != "A/<4>u0 A/<3>u1 " {
		t.Errorf("by age: %q left", got)
	}
	trim("content", 0, began, 2)
	trim("access", 9, f.clock.now().Add(time.Hour), 3)
	if got := f.seen(AuditFilter{}, 9); got != "" {
		t.Errorf("%q left", got)
	}
}

// What is added while old records are removed stays.
func TestAudit_Trim_whileAdding(t *testing.T) {
	f := newFixture(t)
	for range 50 {
		added := make(chan error)
		go func() { added <- f.Audit.Add(f.ctx, []AuditRecord{{Kind: "content", At: f.clock.now()}}) }()
		n, err := f.Audit.Trim(f.ctx, "content", 100, f.clock.now())
		f.must(err)
		f.must(<-added)
		if n > 0 {
			t.Fatal("a new record is removed")
		}
	}
}

// More than one transaction removes.
func TestAudit_Trim_much(t *testing.T) {
	f := newFixture(t)
	f.must(f.Audit.Add(f.ctx, make([]AuditRecord, 3*auditPart+1)))
	if n, err := f.Audit.Trim(f.ctx, "", 1, time.Time{}); n != 3*auditPart || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
}

func TestAudit_Add_fullDisk_SQLite(t *testing.T) {
	f := newFixture(t)
	f.audited("content", 1)
	f.space.Bytes = func(string) (free, total int64, err error) { return diskspace.Least - 1, 1 << 40, nil }
	if err := f.Audit.Add(f.ctx, []AuditRecord{{}}); !errors.As(err, new(*FullError)) {
		t.Errorf("full disk: %v", err)
	}
	if n, err := f.Audit.Trim(f.ctx, "content", 0, time.Time{}); n != 1 || err != nil {
		t.Errorf("full disk: %d removed, %v", n, err)
	}
}
