package installer

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/systemd"
	"github.com/mirror-appliance/appliance/tlsgen"
)

func (b *box) rotation(part Rotation) (*Plan, error) {
	return PlanRotateCA(b.t.Context(), Request{User: b.user}, part, b.deps)
}

func (b *box) rotate(part Rotation) Result {
	b.t.Helper()
	p, err := b.rotation(part)
	if err != nil {
		b.t.Fatal(err)
	}
	result, err := p.Apply(b.t.Context(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// mustHaveCopies fails unless clients get the same CA by each name in a directory.
func (b *box) mustHaveCopies(dir string) {
	b.t.Helper()
	text := b.read(dir + "rootCA.pem")
	copies := tlsgen.CACopies(dir+"rootCA.pem", []byte(text))
	if len(copies) != 2 || copies[0] != dir+"rootCA.crt" {
		b.t.Errorf("the copies of the CA are %q", copies)
	}
	for _, name := range copies {
		if b.read(name) != text {
			b.t.Errorf("%s is another than rootCA.pem", name)
		}
	}
}

// authorities are the CAs that clients are given, which has to be the same by each name.
func (b *box) authorities() (all []*x509.Certificate) {
	b.t.Helper()
	dir := b.deps.Home + "/quay-install/quay-rootCA/"
	text := b.read(dir + "rootCA.pem")
	b.mustHaveCopies(dir)
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, ca)
	}
	return all
}

// trusts reports whether a client that trusts one CA accepts the certificate.
func (b *box) trusts(ca *x509.Certificate) bool {
	b.t.Helper()
	block, _ := pem.Decode([]byte(b.read(b.deps.Home + "/quay-install/quay-config/ssl.cert")))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "registry.example.com"})
	return err == nil
}

func TestRotateCA(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.install()
		key := b.deps.Home + "/quay-install/quay-rootCA/rootCA-key.pem"
		next := b.deps.Home + "/quay-install/quay-rootCA/rootCA-next-key.pem"
		old := b.authorities()
		b.sm.calls = nil
		b.rotate(RotationBegin)
		both := b.authorities()
		if len(both) != 2 || !both[0].Equal(old[0]) || !b.trusts(old[0]) || b.trusts(both[1]) {
			t.Fatalf("%d CAs; the old one is trusted: %v", len(both), b.trusts(old[0]))
		}
		if slices.Contains(b.sm.calls, "start "+systemd.Service) {
			t.Error("the service was restarted")
		}
		// Neither another begin nor an install gives clients a third CA.
		if b.rotate(RotationBegin).Changed || b.install().Changed || b.install().Changed {
			t.Error("a command that is repeated changes something")
		}
		before := b.read(next)
		b.rotate(RotationFinish)
		now := b.authorities()
		if len(now) != 1 || !now[0].Equal(both[1]) || !b.trusts(now[0]) || b.trusts(old[0]) {
			t.Errorf("%d CAs; the new one is trusted: %v", len(now), b.trusts(now[0]))
		}
		if b.read(key) != before || exists(b.path(next)) {
			t.Error("the key of the new CA is not in its place")
		}
		if !slices.Contains(b.sm.calls, "start "+systemd.Service) {
			t.Errorf("the service goes on with the old CA: %q", b.sm.calls)
		}
		if b.install().Changed {
			t.Error("an install after it changes something")
		}
		if _, err := b.rotation(RotationFinish); err == nil || !strings.Contains(err.Error(), "no rotation of the CA is under way") {
			t.Errorf("another finish: %v", err)
		}
	})
}

func TestRotateCA_abort(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		before := b.snapshot()
		b.install()
		installed := b.snapshot()
		b.rotate(RotationBegin)
		b.rotate(RotationAbort)
		record := b.deps.Home + "/quay-install/quay-config/install.json"
		after := b.snapshot()
		delete(after, record)
		delete(installed, record)
		same(t, "after an abort", after, installed)
		if _, err := PlanRotateCA(t.Context(), Request{User: b.user}, RotationAbort, b.deps); err == nil || !strings.Contains(err.Error(), "no rotation of the CA is under way") {
			t.Errorf("another abort: %v", err)
		}
		b.rotate(RotationBegin)
		b.uninstall(true)
		same(t, "after an uninstall in the middle", b.snapshot(), before)
	})
}

func TestRotateCA_failureIsUndone(t *testing.T) {
	b := newBox(t, false)
	b.install()
	for _, part := range []Rotation{RotationBegin, RotationFinish} {
		before := b.snapshot()
		plan := func() *Plan {
			p, err := b.rotation(part)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		for i := range len(plan().steps) {
			p := plan()
			p.steps[i] = failing{p.steps[i]}
			if _, err := p.Apply(t.Context(), nil); err == nil {
				t.Fatal("no error")
			}
			same(t, "after a failure", b.snapshot(), before)
		}
		for i := range len(plan().steps) { // killed, and typed again
			p, err := b.rotation(part)
			if err != nil && strings.Contains(err.Error(), "no rotation of the CA") {
				break // it was at its end
			}
			if err != nil {
				t.Fatal(err)
			}
			if i < len(p.steps) {
				b.kill(p, i)
			}
		}
		if part == RotationBegin {
			b.rotate(part)
		}
	}
	if now := b.authorities(); len(now) != 1 {
		t.Errorf("%d CAs at the end", len(now))
	}
}

// A daemon that was not restarted by a killed part signs with the old CA.
func TestRotateCA_killedBeforeTheRestart(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.rotate(RotationBegin)
	p, err := b.rotation(RotationFinish)
	if err != nil {
		t.Fatal(err)
	}
	b.kill(p, slices.IndexFunc(p.steps, func(s host.Step) bool { _, ok := s.(*start); return ok }))
	b.sm.calls = nil
	b.rotate(RotationFinish)
	if !slices.Contains(b.sm.calls, "start "+systemd.Service) || len(b.authorities()) != 1 {
		t.Errorf("systemd was told: %q", b.sm.calls)
	}
}

// A daemon that was not restarted by a killed command serves what was there before: the same command
// restarts it, whatever step the first one had come to.
func TestPlanReplace_killedBeforeTheRestart(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.install()
		r := b.certify(time.Now(), "registry.example.com")
		ways := map[string]func() (*Plan, error){
			"cert replace": func() (*Plan, error) {
				return PlanReplace(t.Context(), Request{User: b.user, SSLCert: r.SSLCert, SSLKey: r.SSLKey}, b.deps)
			},
			"upgrade": func() (*Plan, error) { return PlanUpgrade(t.Context(), r, b.deps) },
			"install": func() (*Plan, error) { return PlanInstall(t.Context(), r, b.deps) },
		}
		for name, plan := range ways {
			for i := 0; ; i++ {
				c := b.certify(time.Now(), "registry.example.com") // a new one each time
				r.SSLCert, r.SSLKey = c.SSLCert, c.SSLKey
				p, err := plan()
				if err != nil {
					t.Fatal(err)
				}
				if i == len(p.steps) {
					break
				}
				b.kill(p, i)
				p, err = plan()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Apply(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if last := slices.Index(b.sm.calls, "start "+systemd.Service); last < 0 {
					t.Errorf("%s, killed at step %d: systemd was told %q", name, i, b.sm.calls)
				}
				b.sm.calls = nil
			}
		}
	})
}

func TestRotateCA_refuses(t *testing.T) {
	b := newBox(t, false)
	if _, err := b.rotation(RotationBegin); err == nil || !isNotInstalled(err) {
		t.Errorf("without an install: %v", err)
	}
	b.apply(b.certify(time.Now(), "registry.example.com"))
	var refused *PreflightError
	if _, err := b.rotation(RotationBegin); !errors.As(err, &refused) || !strings.Contains(err.Error(), "the certificate is your own") {
		t.Errorf("of the user's own: %v", err)
	}
}

func TestPlanReplace(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.install()
		program := b.read(b.deps.binary(b.user))
		b.write("program", "another program")
		r := b.certify(time.Now(), "registry.example.com")
		replace := func() Result {
			t.Helper()
			p, err := PlanReplace(t.Context(), Request{User: b.user, SSLCert: r.SSLCert, SSLKey: r.SSLKey}, b.deps)
			if err != nil {
				t.Fatal(err)
			}
			result, err := p.Apply(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			return result
		}
		replace()
		b.checkGiven()
		if b.read(b.deps.binary(b.user)) != program {
			t.Error("the program is another one")
		}
		if replace().Changed {
			t.Error("the same command changes something")
		}
	})
}
