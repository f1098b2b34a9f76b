package installer

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// anchor is a copy of the CA where programs of this host look for CAs they trust.
type anchor struct {
	host.File
	host *host.Host
	// Refresh is the program that makes the system's bundle of its anchors; "" for a directory that
	// clients read themselves.
	Refresh string `json:"refresh,omitempty"`

	again bool // a run was killed that may have written the file only
}

func (s *anchor) String() string {
	if s.Refresh != "" {
		return s.File.String() + " and run " + s.Refresh
	}
	return s.File.String()
}

// Check compares the file.
func (s *anchor) Check(ctx context.Context) (*host.Before, error) {
	before, err := s.File.Check(ctx)
	if s.again = s.again && before == nil && err == nil; s.again {
		before = &host.Before{}
	}
	return before, err
}

// Apply writes the file, then makes the bundle.
func (s *anchor) Apply(ctx context.Context) (changed bool, err error) {
	if changed = s.again; !s.again {
		if changed, err = s.File.Apply(ctx); err != nil {
			return changed, err
		}
	}
	return changed, s.refresh(ctx)
}

// Undo removes the file, then makes the bundle without it.
func (s *anchor) Undo(ctx context.Context, before *host.Before) (bool, error) {
	changed, err := s.File.Undo(ctx, before)
	if err != nil {
		return changed, err
	}
	if s.Refresh == "update-ca-certificates" { // which leaves links to what is gone
		return changed, s.refresh(ctx, "--fresh")
	}
	return changed, s.refresh(ctx)
}

func (s *anchor) refresh(ctx context.Context, args ...string) error {
	if s.Refresh == "" {
		return nil
	}
	_, err := s.host.Run(ctx, s.Refresh, args...)
	return err
}

// stores are the places of the system's anchors: of RHEL and Fedora, of Debian and Ubuntu, of SUSE,
// of Arch.
var stores = []struct{ dir, refresh string }{
	{"/etc/pki/ca-trust/source/anchors", "update-ca-trust"},
	{"/usr/local/share/ca-certificates", "update-ca-certificates"},
	{"/etc/pki/trust/anchors", "update-ca-certificates"},
	{"/etc/ca-certificates/trust-source/anchors", "update-ca-trust"},
}

// PlanTrust plans to have this host trust the CA of its appliance: in the system's bundle, and for
// podman, skopeo, CRI-O and docker. As a user, for that user's podman and docker alone. It is
// recorded, so that an uninstall takes it back. With undo it plans to take it back now.
func PlanTrust(ctx context.Context, r Request, d Deps, undo bool) (*Plan, error) {
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.unit, err = find(s.Deps, s.User); err != nil && !isNotInstalled(err) {
		return nil, err
	}
	if !s.look() {
		return nil, &PreflightError{Problems: s.problems}
	}
	if notThere(s.contentIs) {
		return nil, absent(s.confPath(), "", r.QuayRoot)
	}
	s.checkKilledRun()
	s.resume(true)
	s.want()
	s.checkRights()
	if s.changer != nil {
		s.problem("other users can change "+s.changer.Path+", and so the CA", "run appliance install again first, "+
			"or run the command as the user who installed it")
	}
	if s.cfg != nil && !undo {
		s.checkTrustable()
	}
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	plan.Warnings = nil // those of an install
	plan.result.Address, plan.result.CA = s.cfg.Address(), s.cfg.TLS.CA
	if s.record == nil {
		s.record = s.guess()
	}
	if undo {
		plan.distrust()
		return plan, nil
	}
	plan.install = true
	b := &builder{site: s, Plan: plan, made: make(map[string]bool)}
	return plan, b.all(b.rootDirs, b.trust)
}

func (s *site) checkTrustable() {
	switch {
	case s.cfg.TLS.CA == "":
		s.problem("config.yaml names no CA: the clients of this registry know it already",
			"name its file in tls.ca of config.yaml if they do not")
	case s.files.caPEM == nil:
		s.problem("the CA in "+s.cfg.TLS.CA+" cannot be read", "run appliance install again, which makes it")
	}
}

// trust adds the copies of the CA.
func (b *builder) trust() error {
	files := map[string]string{} // its path, and the program to run
	var paths []string
	add := func(path, refresh string) { files[path], paths = refresh, append(paths, path) }
	base := "/etc"
	if b.User {
		base = filepath.Join("/", b.Home, ".config")
		b.Warnings = append(b.Warnings, Problem{Warning: true, What: "the system's trust is root's, and stays as it is",
			Remedy: "copy " + b.cfg.TLS.CA + " there as root if other programs than podman and docker are to trust it"})
	}
	for _, address := range b.cfg.Addresses() {
		for _, program := range []string{"containers", "docker"} {
			add(b.anchorIn(filepath.Join(base, program, "certs.d", address)), "")
		}
	}
	if i := slices.IndexFunc(stores, func(in struct{ dir, refresh string }) bool { return b.has(in.dir) }); i >= 0 && !b.User {
		add(filepath.Join(stores[i].dir, fmt.Sprintf("appliance-%s-%d.crt", b.cfg.Hostname, b.cfg.Port)), stores[i].refresh)
	} else if !b.User {
		b.Warnings = append(b.Warnings, Problem{Warning: true, What: "this host has no directory of trusted CAs that is known here",
			Remedy: "install the package ca-certificates, then run the command again"})
	}
	for _, path := range paths {
		if err := b.directory(filepath.Dir(path), b.mode(0o755, 0o700), b.admin, keep); err != nil {
			return err
		}
		file := host.File{Host: b.Host, Path: path, Content: b.site.files.caPEM, Mode: 0o644, Owner: b.admin}
		again := slices.ContainsFunc(b.unstarted, func(e host.Entry) bool {
			killed, ok := e.Step.(*anchor)
			return ok && killed.Path == path && killed.Refresh != ""
		})
		b.add(&anchor{File: file, host: b.Host, Refresh: files[path], again: again})
	}
	return nil
}

// anchorIn returns the path of the CA's copy in a directory of certs.d, whose files *.crt are all read: not
// that of a file of another's.
func (b *builder) anchorIn(dir string) string {
	usual, beside := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "appliance.crt")
	have, err := b.Host.ReadFile(usual)
	switch {
	case b.record.hasAnchor(beside):
		return beside
	case err != nil || b.record.hasAnchor(usual) || bytes.Equal(have, b.site.files.caPEM):
		return usual
	}
	return beside
}

// hasAnchor reports whether trust has made a file.
func (r *record) hasAnchor(path string) bool {
	return slices.ContainsFunc(r.entries, func(e host.Entry) bool {
		a, ok := e.Step.(*anchor)
		return ok && a.Path == path
	})
}

// distrust adds steps that take back what trust has recorded, and forget it.
func (p *Plan) distrust() {
	var gone []host.Entry
	for _, e := range slices.Backward(p.site.record.entries) {
		if p.site.isTrust(e) {
			gone = append(gone, e)
			p.add(&inverse{e})
		}
	}
	if len(gone) > 0 {
		p.add(&forget{site: p.site, gone: gone})
	}
}

// isTrust reports whether an entry is of trust: a copy of the CA, or a directory made for one.
func (s *site) isTrust(e host.Entry) bool {
	switch step := e.Step.(type) {
	case *anchor:
		return true
	case *host.Dir:
		return slices.ContainsFunc(s.record.entries, func(other host.Entry) bool {
			a, ok := other.Step.(*anchor)
			return ok && within(a.Path, step.Path)
		})
	}
	return false
}

// forget takes entries out of the record. A directory that is still there stays in it.
type forget struct {
	action
	site *site
	gone []host.Entry
}

func (s *forget) String() string { return "" }

func (s *forget) Apply(ctx context.Context) (bool, error) {
	r := *s.site.record
	r.entries = slices.DeleteFunc(slices.Clone(r.entries), func(e host.Entry) bool {
		return slices.ContainsFunc(s.gone, func(g host.Entry) bool {
			dir, isDir := g.Step.(*host.Dir)
			return g.Step == e.Step && !(isDir && s.site.has(dir.Path))
		})
	})
	text, err := r.text(s.site)
	if err != nil {
		return false, err
	}
	return false, s.site.replaceRecord(ctx, text)
}
