package node

import (
	"context"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// bootImage looks for the ISO that openshift-install takes out of the release. If it is not there,
// openshift-install asks the internet for it.
func (c *checker) bootImage(ctx context.Context, p *payload, states []*state) {
	at := slices.IndexFunc(states, func(s *state) bool { return s.name == release.BootComponent })
	if at < 0 {
		c.tell(finding.Warning, "boot image", p.name, "the release has no "+release.BootComponent+": openshift-install would ask the internet for the boot image", "take a release that has it (4.12 and later of OpenShift)")
		return
	}
	s := states[at]
	if s.top == nil || len(s.missing) > 0 {
		return // which was told
	}
	m, err := c.instance(ctx, s.at, s.top)
	var name string
	if err == nil {
		name, err = c.findISO(ctx, s.at, m, c.Machine)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.tell(finding.Failed, "boot image", p.name, err.Error(), "openshift-install would ask the internet for it: mirror the release again; --arch names the architecture of the hosts")
	default:
		c.tell(finding.OK, "boot image", p.name, name+" is in "+release.BootComponent, "")
	}
}

// findISO returns the name of the ISO in an image.
func (c *checker) findISO(ctx context.Context, at place, m *manifest, machine string) (name string, err error) {
	client, err := c.client(at.registry)
	if err != nil {
		return "", err
	}
	if cluster.Architecture(machine) == "" { // of several ones, or not named
		machine = ""
	}
	return release.FindISO(m.layers(), func(d digest.Digest) (io.ReadCloser, error) {
		body, _, err := client.Blob(ctx, at.repository, d)
		return body, err
	}, machine)
}
