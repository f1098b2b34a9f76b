package main_test

import (
	"strings"
	"testing"
)

func TestForget_commands(t *testing.T) {
	first, second, other := newSite(t), newSite(t), newSite(t)
	second.works(t, second.follow(t, first)...)
	second.awaits(t, caughtUp)
	forget := func(which string, flags ...string) []string {
		return append([]string{"forget", which, "--quayRoot", second.root}, flags...)
	}
	if code, _, stderr := second.run(t, forget("https://"+first.address)...); code != 1 || !strings.Contains(stderr, "no registry follows this one") {
		t.Errorf("%d, %s", code, stderr)
	}
	first.kill()
	second.works(t, "promote", "--force", "--quayRoot", second.root)
	other.works(t, other.follow(t, second)...)
	other.awaits(t, caughtUp)
	status := func() string { t.Helper(); return second.works(t, "status", "--quayRoot", second.root) }
	if out := status(); !strings.Contains(out, "not told yet: "+first.address) || !strings.Contains(out, "appliance forget https://"+first.address) {
		t.Errorf("status prints\n%s", out)
	}
	code, _, stderr := second.run(t, forget("https://none:8443")...)
	for _, want := range []string{"https://none:8443 does not follow this registry", first.address + ", not told yet)", other.address + ", a follower)"} {
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%d, %s, want %s", code, stderr, want)
		}
	}
	if out := second.works(t, forget("https://"+first.address, "-o", "json")...); !strings.Contains(out, `"address": "`+first.address+`"`) || !strings.Contains(out, `"untold": true`) || !strings.Contains(out, `"follower": false`) || !strings.Contains(out, "destroy its data") {
		t.Errorf("it prints %s", out)
	}
	if out := status(); strings.Contains(out, first.address) || !strings.Contains(out, other.address) {
		t.Errorf("status prints\n%s", out)
	}
	first.start(t)
	if err := first.push(t.Context(), newTestImage("late", "v1", randomBytes(1<<10))); err == nil { // before which it asks
		t.Error("the first takes a push")
	}
	if first.isPrimary(t) || !second.isPrimary(t) {
		t.Error("the first takes changes, or the second does not")
	}
	other.kill() // one that asks is registered again
	if out := second.works(t, forget("https://"+other.address+"/")...); !strings.Contains(out, "https://"+other.address+" is forgotten") || !strings.Contains(out, "registered again") || strings.Contains(out, "destroy its data") {
		t.Errorf("it prints %s", out)
	}
	if out := status(); strings.Contains(out, other.address) {
		t.Errorf("status prints\n%s", out)
	}
}
