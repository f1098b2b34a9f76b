package installer

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
)

func (b *box) trust(undo bool) Result {
	b.t.Helper()
	p, err := PlanTrust(b.t.Context(), Request{User: b.user}, b.deps, undo)
	if err != nil {
		b.t.Fatalf("PlanTrust: %v", err)
	}
	result, err := p.Apply(b.t.Context(), nil)
	if err != nil {
		b.t.Fatalf("trust: %v", err)
	}
	return result
}

func TestTrust(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]struct{ dir, refresh string }{
		"Debian": {"usr/local/share/ca-certificates", "update-ca-certificates"}, "RHEL": {"etc/pki/ca-trust/source/anchors", "update-ca-trust"},
	} {
		b := newBox(t, false)
		b.write(store.dir+"/other.crt", "other")
		var ran []string
		b.ran = func(name string, _ ...string) { ran = append(ran, name) }
		empty := b.snapshot()
		b.install()
		installed := b.snapshot()
		if !b.trust(false).Changed || !slices.Equal(ran[len(ran)-1:], []string{store.refresh}) {
			t.Errorf("%s: it ran %q", name, ran)
		}
		ca := b.read("root/quay-install/quay-rootCA/rootCA.pem")
		for _, path := range []string{"etc/containers/certs.d/registry.example.com:8443/ca.crt", "etc/docker/certs.d/registry.example.com:8443/ca.crt",
			store.dir + "/appliance-registry.example.com-8443.crt"} {
			if got := b.read(path); got != ca {
				t.Errorf("%s: %s has %q", name, path, got)
			}
		}
		if b.trust(false).Changed {
			t.Errorf("%s: a second trust changes something", name)
		}
		trusted := b.snapshot()
		b.install()
		same(t, name+": a second install", b.snapshot(), trusted)
		ran = nil
		if !b.trust(true).Changed || !slices.Equal(ran, []string{store.refresh}) {
			t.Errorf("%s: undo ran %q", name, ran)
		}
		got := b.snapshot()
		delete(got, "/root/quay-install/quay-config/install.json")
		delete(installed, "/root/quay-install/quay-config/install.json")
		same(t, name+": undo", got, installed)
		if b.trust(true).Changed {
			t.Errorf("%s: a second undo changes something", name)
		}

		b.trust(false)
		ran = nil
		b.uninstall(true)
		same(t, name+": uninstall", b.snapshot(), empty)
		if !slices.Contains(ran, store.refresh) {
			t.Errorf("%s: the uninstall ran %q", name, ran)
		}
	}
}

// A trust that was killed after it had written the anchor has not made the bundle.
func TestTrust_killedBeforeTheBundle(t *testing.T) {
	b := newBox(t, false)
	b.write("usr/local/share/ca-certificates/other.crt", "other")
	b.install()
	p, err := PlanTrust(t.Context(), Request{}, b.deps, false)
	if err != nil {
		t.Fatal(err)
	}
	b.ran = func(string, ...string) { panic(killed{}) }
	func() {
		defer func() { p.journal.Close(); _ = recover() }()
		_, _ = p.Apply(t.Context(), nil)
	}()
	var ran []string
	b.ran = func(name string, _ ...string) { ran = append(ran, name) }
	if !b.trust(false).Changed || !slices.Contains(ran, "update-ca-certificates") {
		t.Errorf("it ran %q", ran)
	}
	if b.trust(false).Changed {
		t.Error("a third changes something")
	}
}

// What was there before is not removed: neither another registry's CA nor a directory.
func TestTrust_leavesOthers(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.write("etc/containers/certs.d/other:5000/ca.crt", "other")
	b.install()
	before := b.read("root/quay-install/quay-rootCA/rootCA.pem")
	b.write("etc/docker/certs.d/registry.example.com:8443/ca.crt", before) // as the documentation has it
	b.trust(false)
	b.trust(true)
	if !exists(b.path("etc/containers/certs.d/other:5000/ca.crt")) || exists(b.path("etc/containers/certs.d/registry.example.com:8443")) ||
		!exists(b.path("etc/docker/certs.d/registry.example.com:8443/ca.crt")) {
		t.Error("it has removed what it has not made, or left what it has made")
	}
	b.write("etc/containers/certs.d/registry.example.com:8443/ca.crt", before) // by hand, after the undo
	b.uninstall(true)
	if !exists(b.path("etc/containers/certs.d/registry.example.com:8443/ca.crt")) {
		t.Error("an uninstall takes back what was taken back before")
	}
}

// A CA of another's for the same address is not replaced, also after a rotation.
func TestTrust_besideAnothers(t *testing.T) {
	b := newBox(t, false)
	dir := "etc/containers/certs.d/registry.example.com:8443/"
	b.install()
	b.write(dir+"ca.crt", "another's")
	for range 2 {
		b.trust(false)
		if got, ca := b.read(dir+"appliance.crt"), b.read("root/quay-install/quay-rootCA/rootCA.pem"); got != ca || b.read(dir+"ca.crt") != "another's" {
			t.Errorf("it has %q, and %q", got, b.read(dir+"ca.crt"))
		}
		p, err := PlanRotateCA(t.Context(), Request{}, RotationBegin, b.deps)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	b.trust(true)
	if b.read(dir+"ca.crt") != "another's" || exists(b.path(dir+"appliance.crt")) {
		t.Error("undo leaves its own, or takes another's")
	}
	b.trust(false)
	if err := os.Remove(b.path(dir + "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if b.trust(false); exists(b.path(dir+"ca.crt")) || !exists(b.path(dir+"appliance.crt")) {
		t.Error("without another's, its own is there twice, or elsewhere than before")
	}
}

func TestTrust_user(t *testing.T) {
	t.Parallel()
	b := newBox(t, true)
	b.write("usr/local/share/ca-certificates/other.crt", "other")
	b.install()
	b.trust(false)
	for _, path := range []string{"home/alice/.config/containers/certs.d/registry.example.com:8443/ca.crt", "home/alice/.config/docker/certs.d/registry.example.com:8443/ca.crt"} {
		if !exists(b.path(path)) {
			t.Errorf("there is no %s", path)
		}
	}
	if exists(b.path("usr/local/share/ca-certificates/appliance-registry.example.com-8443.crt")) || exists(b.path("etc/containers")) {
		t.Error("it writes where root does")
	}
	b.trust(true)
	if exists(b.path("home/alice/.config/containers")) || !exists(b.path("home/alice/.config/systemd/user/appliance.service")) {
		t.Error("undo leaves something, or takes more")
	}
}

func TestTrust_refused(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	if _, err := PlanTrust(context.Background(), Request{}, b.deps, false); err == nil || !strings.Contains(err.Error(), "no appliance found") {
		t.Errorf("got %v", err)
	}
	b.install()
	if err := os.Remove(b.path("root/quay-install/quay-rootCA/rootCA.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := PlanTrust(context.Background(), Request{}, b.deps, false); err == nil {
		t.Error("it trusts a CA that is not there")
	}
}
