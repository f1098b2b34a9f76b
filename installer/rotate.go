package installer

import (
	"context"
	"fmt"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/systemd"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// Rotation is a part of replacing the CA. Between the first two, clients are given both CAs, and
// the certificate is one of the old CA, which all of them know.
type Rotation int

// The parts of a rotation.
const (
	RotationBegin Rotation = iota
	RotationFinish
	RotationAbort
)

// PlanReplace plans to serve the certificate of the request, and changes nothing else.
func PlanReplace(ctx context.Context, r Request, d Deps) (*Plan, error) {
	return planCertificates(ctx, r, d, nil, true)
}

// PlanRotateCA plans a part of a rotation of the CA.
func PlanRotateCA(ctx context.Context, r Request, part Rotation, d Deps) (*Plan, error) {
	return planCertificates(ctx, r, d, func(s *site) { s.rotate(part) }, part == RotationFinish)
}

// planCertificates plans the steps of an install that are about certificates, once change has
// decided about them. Without restart, the daemon is left alone.
func planCertificates(ctx context.Context, r Request, d Deps, change func(*site), restart bool) (
	*Plan, error) {
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.unit, err = find(s.Deps, s.User); err != nil {
		return nil, err
	}
	if s.look() {
		s.lookAtServices(ctx)
		s.checkKilledRun()
		s.resume(false)
	}
	s.checkRights()
	s.want()
	if len(s.fatal()) == 0 && change != nil {
		change(s)
	}
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	plan.install, s.bus.needed = true, true
	plan.result = Result{Address: s.cfg.Address(), QuayRoot: s.QuayRoot, CA: s.cfg.TLS.CA}
	if s.record == nil {
		s.record = s.guess()
	}
	b := &builder{site: s, Plan: plan, made: make(map[string]bool)}
	if err := b.all(b.begin, b.files); err != nil {
		return nil, err
	}
	if restart {
		b.add(&start{bus: b.bus, host: b.Host, journal: b.journal, binary: b.unit.Binary,
			socket: b.unitFile(systemd.Socket), renamed: s.certs.dropNext, unstarted: s.unstarted},
			&health{bus: b.bus, host: b.Host, cfg: b.cfg, check: b.Health})
	}
	if s.certs.dropNext { // last, so that a part that was killed can be completed
		b.add(&host.Remove{Host: b.Host, Path: b.nextKey()})
	}
	return plan, nil
}

// nextKey is where the key of the next CA waits for the end of a rotation.
func (s *site) nextKey() string { return tlsgen.NextKeyFile(s.cfg.TLS.CAKey) }

// next returns the CA of the rotation under way, nil if there is none.
func (s *site) next() *tlsgen.CA {
	key, err := s.Host.ReadFile(s.nextKey())
	if err != nil {
		return nil
	}
	// A run that was killed may have left the key alone: no client has its certificate.
	ca, err := tlsgen.ParseCA(s.files.caPEM, key)
	if err != nil {
		return nil
	}
	return ca
}

// rotate decides about the certificates in a part of a rotation.
func (s *site) rotate(part Rotation) {
	c := s.cfg.TLS
	switch {
	case s.cfg.Shared():
		s.problem("the CA is that of all daemons of the database", "put another one in its place: appliance docs several, under Certificates")
		return
	case c.CAKey == "":
		s.problem("the certificate is your own, and its CA is not kept here",
			"put another certificate in its place: appliance cert replace --sslCert FILE --sslKey FILE")
		return
	case !s.isMade(c.CA) || !s.isMade(c.CAKey) || s.files.authority == nil:
		s.problem(fmt.Sprintf("the CA in %s is not one that install has made", c.CA),
			"replace its files yourself, then restart the service")
		return
	}
	next := s.next()
	// A run that was killed may have left the key alone.
	if next == nil && (part == RotationFinish || part == RotationAbort && !s.has(s.nextKey())) {
		s.problem("no rotation of the CA is under way", "begin one: appliance cert rotate-ca")
		return
	}
	switch part {
	case RotationBegin:
		s.beginRotation(next)
	case RotationFinish:
		s.finishRotation(next)
	case RotationAbort:
		s.certs.caPEM, s.certs.dropNext = s.files.authority.CertPEM(), true
	}
}

func (s *site) beginRotation(next *tlsgen.CA) {
	if next == nil {
		var err error
		if next, err = s.createCA(); err != nil {
			s.fault(fmt.Errorf("make a CA for %s: %w", s.cfg.Hostname, err), "check the hostname")
			return
		}
	}
	s.certs.nextKey = next.KeyPEM()
	s.certs.caPEM = append(s.files.authority.CertPEM(), next.CertPEM()...)
}

func (s *site) finishRotation(next *tlsgen.CA) {
	leaf, key, err := next.IssueLeaf(servedNames(s.cfg.Hostname), s.now)
	if err != nil {
		s.fault(fmt.Errorf("make a certificate: %w", err), hint.Of(err))
		return
	}
	s.certs.caPEM, s.certs.caKey, s.certs.dropNext = next.CertPEM(), next.KeyPEM(), true
	s.certs.leafPEM, s.certs.leafKey = leaf, key
}
