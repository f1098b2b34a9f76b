package installer

import (
	"errors"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
)

func TestPlanPrepare(t *testing.T) {
	b := newBox(t, true)
	r := Request{Hostname: "localhost", Port: 9443, QuayRoot: "/home/alice/run"}
	prepare := func() Result {
		t.Helper()
		p, err := PlanPrepare(t.Context(), r, b.deps)
		if err != nil {
			t.Fatal(err)
		}
		result, err := p.Apply(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if result := prepare(); !result.Changed || result.Address != "localhost:9443" {
		t.Errorf("result: %+v", result)
	}
	if _, err := config.Parse("config.yaml", []byte(b.read("home/alice/run/quay-config/config.yaml"))); err != nil {
		t.Error(err)
	}
	before := b.snapshot()
	if result := prepare(); result.Changed {
		t.Error("the second time changed something")
	}
	same(t, "after the second time", b.snapshot(), before)
	if len(b.sm.calls) != 0 {
		t.Errorf("systemd was told: %v", b.sm.calls)
	}
	r.Hostname = "10.0.0.1"
	if _, err := PlanPrepare(t.Context(), r, b.deps); !errors.As(err, new(*PreflightError)) {
		t.Errorf("an IP as hostname: %v", err)
	}
	b.write("home/alice/run/quay-config/config.yaml", "SERVER_HOSTNAME: quay\nDB_URI: x\n")
	r.Hostname = ""
	if _, err := PlanPrepare(t.Context(), r, b.deps); !errors.As(err, new(*PreflightError)) {
		t.Errorf("the directory of a mirror-registry: %v", err)
	}
}

// Directories that hold other things are not closed to those who use them.
func TestPlanPrepare_RefusesDirectoriesOfOthers(t *testing.T) {
	for root, file := range map[string]string{"/": "run/other.pid", "/srv/a": "srv/a/run/other.pid", "/srv/b": "srv/b/quay-storage/photo", "/srv/c": "srv/c/sqlite-storage/other.db"} {
		b := newBox(t, false)
		b.write(file, "")
		if _, err := PlanPrepare(t.Context(), Request{Hostname: "localhost", QuayRoot: root}, b.deps); !errors.As(err, new(*PreflightError)) {
			t.Errorf("in %s, with %s: %v", root, file, err)
		}
	}
}
