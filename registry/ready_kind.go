package registry

import (
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/ready"
)

// readyKind is the kind of work that judges releases. It changes nothing.
func (d *daemon) readyKind() jobs.Kind[api.ReadyRequest, api.ReadyProgress, api.Verdict] {
	o := ready.Options{Store: d.store, Registry: d.cfg.Address(), Version: d.version,
		Updates: d.updates, Upstreams: d.cfg.Routes(), Dir: d.cfg.Database + ".ready", Log: d.log}
	return jobs.Kind[api.ReadyRequest, api.ReadyProgress, api.Verdict]{
		Name: "verdict", Waits: true, Run: ready.New(o).Judge, Drain: d.draining, Log: d.log,
		DryRun: func(api.ReadyRequest) bool { return true },
	}
}
