package installer

import (
	"context"
)

// PlanPrepare plans the part of an install that needs neither systemd nor rights: directories, CA,
// certificate and config.yaml, all of them the caller's. It is for a registry that another program
// runs, such as a development machine: `appliance serve --quayRoot DIR`. It makes no users.
func PlanPrepare(ctx context.Context, r Request, d Deps) (*Plan, error) {
	r.User = true
	s, err := newSite(r, d)
	if err != nil {
		return nil, err
	}
	if s.look() {
		s.resume(true)
	}
	s.want()
	switch {
	case s.cfg != nil:
		s.checkHostname(s.cfg.Hostname)
		s.checkContent()
		for _, p := range s.dirs.own {
			s.checkAlone(p)
		}
	case s.isQuay():
		s.checkMirrorRegistry()
	}
	plan, err := s.newPlan()
	if err != nil {
		return nil, err
	}
	plan.install = true
	plan.result.Address = s.cfg.Address()
	if s.record == nil && s.kept {
		s.record = s.guess()
	}
	b := &builder{site: s, Plan: plan, made: make(map[string]bool)}
	return plan, b.all(b.rootDirs, b.directories, b.files)
}
