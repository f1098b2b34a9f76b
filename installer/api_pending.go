package installer

import (
	"context"
	"net/netip"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// ServiceManager is what the installer asks of systemd.
type ServiceManager interface {
	Close() error
}

// Resolver is the part of net.Resolver that preflight uses.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Found is an existing install, read from its unit.
type Found struct {
	Unit     string // path of appliance.service
	Binary   string // the executable that it starts
	Config   string // the config.yaml that it names
	QuayRoot string
}

// Find reads the unit of the system (or of the calling user). Without one the error is *NotInstalledError.
func Find(d Deps, user bool) (*Found, error) { return nil, &NotInstalledError{} }

// Plan is what an install or an uninstall is going to do.
type Plan struct {
	Steps    []Step
	Warnings []Problem
}

// Describe gives one line for each step, in order.
func (p *Plan) Describe() []string { return nil }

// Apply does the steps in order. progress (may be nil) gets a line before each step that has something to
// do; on failure, or when ctx ends, everything done is undone.
func (p *Plan) Apply(ctx context.Context, progress func(line string)) (Result, error) {
	return Result{}, nil
}

// Preflight checks every precondition of an install and returns all problems, warnings among them.
func Preflight(ctx context.Context, r Request, d Deps) []Problem { return nil }

// PlanInstall returns *PreflightError when something is in the way.
func PlanInstall(ctx context.Context, r Request, d Deps) (*Plan, error) { return nil, nil }

// PlanUninstall returns *NotInstalledError when nothing is there.
func PlanUninstall(ctx context.Context, r Request, d Deps) (*Plan, error) { return nil, nil }

var _ = host.Local
