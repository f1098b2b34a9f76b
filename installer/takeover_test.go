package installer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/systemd"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// withQuay puts a mirror-registry on a host, and returns the request that takes its place.
func (b *box) withQuay(images *int) Request {
	b.t.Helper()
	for _, unit := range retired() {
		b.write(filepath.Join(b.deps.unitDir(b.user), unit), "[Service]\n")
		b.sm.active[unit] = true
	}
	b.sm.runs = map[string]string{}
	ca, err := tlsgen.CreateCA("quay", time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	leaf, key, err := ca.IssueLeaf([]string{"registry.example.com"}, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	for name, content := range map[string][]byte{"quay-rootCA/rootCA.pem": ca.CertPEM(), "quay-rootCA/rootCA.key": ca.KeyPEM(),
		"quay-config/ssl.cert": leaf, "quay-config/ssl.key": key} {
		b.write(filepath.Join("srv/quay", name), string(content))
	}
	b.deps.Adopt = func(_ context.Context, in Installation, _ *TakeOver) error {
		for _, unit := range retired() {
			if b.sm.active[unit] {
				return fmt.Errorf("%s still runs", unit)
			}
		}
		*images++
		b.write(filepath.Join(in.Config.Storage, "sha256/ab/abcd"), "blob")
		b.write(in.Config.Database, "rows")
		return nil
	}
	r := b.request()
	r.TakeOver = &TakeOver{Quay: adopt.QuayInstall{Root: "/srv/quay"}, Public: []string{"open/image"}}
	return r
}

// quayRuns expects the mirror-registry to run.
func (b *box) quayRuns() {
	b.t.Helper()
	for _, unit := range retired() {
		if !b.sm.active[unit] {
			b.t.Errorf("%s does not run", unit)
		}
	}
	b.sm.runs = map[string]string{} // what fakeSystemd notes of a start
}

func TestTakeOver(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		imported := 0
		r := b.withQuay(&imported)
		b.write("proc/net/tcp", takenPort) // Quay's
		if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(b.deps.Home, "quay-install")
		for from, to := range map[string]string{"quay-rootCA/rootCA.pem": "quay-rootCA/rootCA.pem", "quay-rootCA/rootCA.key": "quay-rootCA/rootCA-key.pem",
			"quay-config/ssl.cert": "quay-config/ssl.cert", "quay-config/ssl.key": "quay-config/ssl.key"} {
			if b.read(filepath.Join("srv/quay", from)) != b.read(filepath.Join(root, to)) {
				t.Errorf("%s is not the mirror-registry's %s", to, from)
			}
		}
		if conf := b.read(filepath.Join(root, "quay-config/config.yaml")); !strings.Contains(conf, "open/image") {
			t.Errorf("what is public is not:\n%s", conf)
		}
		for _, unit := range retired() {
			file := filepath.Join(b.deps.unitDir(b.user), unit)
			if b.sm.active[unit] || !exists(b.path(file+RetiredSuffix)) {
				t.Errorf("%s is not retired", unit)
			}
		}
		if !b.sm.active[systemd.Service] || imported != 1 {
			t.Errorf("the appliance does not run, or imported %d times", imported)
		}
		before := b.snapshot()
		p := b.plan(r)
		if len(p.Warnings) == 0 || !strings.Contains(fmt.Sprint(p.Warnings), "was taken over already") {
			t.Errorf("the second time it warns %v", p.Warnings)
		}
		if result, err := p.Apply(t.Context(), nil); err != nil || result.Changed || imported != 1 {
			t.Errorf("the second time it changes something: %v, %v", result, err)
		}
		same(t, "the second time", b.snapshot(), before)
	})
}

// TestTakeOver_failsAtEachStep: the mirror-registry runs again.
func TestTakeOver_failsAtEachStep(t *testing.T) {
	b, imported := newBox(t, false), 0
	r := b.withQuay(&imported)
	before := b.snapshot()
	for i := range b.plan(r).steps {
		p := b.plan(r)
		name := p.steps[i].String()
		p.steps[i] = failing{p.steps[i]}
		_, err := p.Apply(t.Context(), nil)
		var failure *applyError
		if !errors.As(err, &failure) || failure.UndoErr != nil {
			t.Fatalf("step %d (%s): %v", i, name, err)
		}
		b.quayRuns()
		same(t, fmt.Sprintf("failed at step %d (%s)", i, name), b.snapshot(), before)
	}
}

// TestTakeOver_killedAtEachStep: the same command completes it, or gives the host back; another one is
// told which.
func TestTakeOver_killedAtEachStep(t *testing.T) {
	clean, none := newBox(t, false), 0
	steps := len(clean.plan(clean.withQuay(&none)).steps)
	for i := range steps {
		b, imported := newBox(t, false), 0
		r := b.withQuay(&imported)
		before := b.snapshot()
		b.kill(b.plan(r), i)
		retiredYet := exists(b.path("etc/systemd/system/quay-app.service" + RetiredSuffix))
		if retiredYet {
			plain := r
			plain.TakeOver = nil
			if _, err := PlanInstall(t.Context(), plain, b.deps); err == nil || !strings.Contains(err.Error(), "was interrupted") {
				t.Fatalf("step %d: a plain install goes on: %v", i, err)
			}
		}
		if i%2 == 0 {
			p := b.plan(r)
			last := slices.IndexFunc(p.steps, func(s host.Step) bool { _, ok := s.(*takeOver); return ok })
			p.steps[last] = failing{p.steps[last]}
			if _, err := p.Apply(t.Context(), nil); err == nil {
				t.Fatalf("step %d: it does not fail", i)
			}
			b.quayRuns()
			same(t, fmt.Sprintf("killed at step %d, then failed", i), b.snapshot(), before)
			continue
		}
		if _, err := b.plan(r).Apply(t.Context(), nil); err != nil || imported == 0 || !b.sm.active[systemd.Service] {
			t.Errorf("killed at step %d: %v, imported %d times", i, err, imported)
		}
	}
}

// TestTakeOver_certificateOfTheUser was not signed by the mirror-registry's CA: it is served as it is.
func TestTakeOver_certificateOfTheUser(t *testing.T) {
	b, imported := newBox(t, false), 0
	r := b.withQuay(&imported)
	ca, err := tlsgen.CreateCA("corporate", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, key, err := ca.IssueLeaf([]string{"registry.example.com"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.write("srv/quay/quay-config/ssl.cert", string(leaf))
	b.write("srv/quay/quay-config/ssl.key", string(key))
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(b.path("root/quay-install/quay-config/ssl.cert"), b.path("root/quay-install/quay-config/ssl.key"))
	if err != nil || pair.Leaf.Issuer.CommonName != "corporate" {
		t.Errorf("the certificate is another: %v", err)
	}
	if _, err := os.Stat(b.path("root/quay-install/quay-rootCA/rootCA-key.pem")); err == nil {
		t.Error("a CA was made")
	}
}
