package installer

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// at has the box's clock show a time.
func (b *box) at(now time.Time) { b.deps.Clock = func() (time.Time, bool) { return now, true } }

// A clock that has gone back gives certificates that clients refuse.
func TestPreflight_clock(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		spoil func(b *box)
		what  string // a part of the problem; empty: none
		warns bool
	}{
		"as it should be":         {func(b *box) { b.deps.Built = now.Add(-time.Hour) }, "", false},
		"before the build":        {func(b *box) { b.deps.Built = now.Add(time.Hour) }, "and this program was built at " + now.Add(time.Hour).UTC().Format(time.RFC3339), false},
		"before the last boot":    {func(b *box) { b.write("var/log/wtmp", ""); b.at(now.Add(-year)) }, "and /var/log/wtmp was written at", true},
		"before the database":     {func(b *box) { b.install(); b.at(now.Add(-30 * time.Minute)) }, "and the database was written at", false},
		"a CA of the future":      {func(b *box) { b.at(now.Add(year)); b.install(); b.at(now) }, "the CA in /root/quay-install/quay-rootCA/rootCA.pem is valid from", false},
		"no time service":         {func(b *box) { b.deps.Clock = func() (time.Time, bool) { return now, false } }, "no time service keeps", true},
		"seconds are not counted": {func(b *box) { b.write("var/log/wtmp", ""); b.at(now.Add(-time.Minute)) }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, false)
			c.spoil(b)
			before := b.snapshot()
			plan, err := PlanInstall(t.Context(), b.request(), b.deps)
			same(t, "after planning", b.snapshot(), before)
			var found []Problem
			var failure *PreflightError
			switch {
			case errors.As(err, &failure):
				found = failure.Problems
			case err != nil:
				t.Fatal(err)
			default:
				found = plan.Warnings
			}
			if c.what == "" {
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
				return
			}
			if len(found) == 0 || !strings.Contains(found[0].What, c.what) || found[0].Warning != c.warns || found[0].Remedy == "" {
				t.Errorf("found %+v", found)
			}
		})
	}
}

func TestPreflight_systemd(t *testing.T) {
	t.Parallel()
	for version, want := range map[int]string{
		219: "systemd has version 219, and the units need 239 or later",
		239: "systemd 239 does not know ProtectClock, ProtectHostname, ProtectKernelLogs, ProtectProc, RestrictSUIDSGID",
		247: "",
	} {
		b := newBox(t, false)
		b.sm.version = version
		plan, err := PlanInstall(t.Context(), b.request(), b.deps)
		got := ""
		if err != nil {
			got = err.Error()
		} else if len(plan.Warnings) > 0 {
			got = plan.Warnings[0].What
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%d: %q, want %q", version, got, want)
		}
	}
}
