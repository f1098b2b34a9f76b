package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/layers"
)

// bootComponent is the image of a release that has the ISO from which hosts boot.
const bootComponent = "machine-os-images"

var errFound = errors.New("it was found")

// bootImage looks for the ISO that openshift-install takes out of the release. If it is not there,
// openshift-install asks the internet for it.
func (c *checker) bootImage(ctx context.Context, p *payload, states []*state) {
	at := slices.IndexFunc(states, func(s *state) bool { return s.name == bootComponent })
	if at < 0 {
		c.tell(finding.Warning, "boot image", p.name, "the release has no "+bootComponent+": openshift-install would ask the internet for the boot image", "take a release that has it (4.12 and later of OpenShift)")
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
		c.tell(finding.OK, "boot image", p.name, name+" is in "+bootComponent, "")
	}
}

// findISO returns the name of the ISO in an image.
func (c *checker) findISO(ctx context.Context, at place, m *manifest, machine string) (name string, err error) {
	client, err := c.client(at.registry)
	if err != nil {
		return "", err
	}
	for _, r := range slices.Backward(m.parsed.References) {
		if r.Kind != image.Layer {
			continue
		}
		body, _, err := client.Blob(ctx, at.repository, r.Digest)
		if err != nil {
			return "", err
		}
		var bad error
		err = layers.Read(body, func(e layers.Entry, content io.Reader) error {
			if e.Kind != layers.File || !isISO(e.Name, machine) {
				return nil
			}
			name, bad = e.Name, checkISO(content)
			return errFound // the rest, some gigabyte, is not read
		})
		_ = body.Close()
		switch {
		case bad != nil:
			return "", fmt.Errorf("%s in %s: %w", name, bootComponent, bad)
		case name != "":
			return name, nil
		case err != nil:
			return "", err
		}
	}
	if cluster.Architecture(machine) == "" {
		machine = "ARCH"
	}
	return "", fmt.Errorf("%s has no coreos/coreos-%s.iso", bootComponent, machine)
}

// isISO reports whether a file is the one that openshift-install takes.
func isISO(name, machine string) bool {
	if cluster.Architecture(machine) == "" {
		machine = "*"
	}
	is, _ := path.Match("coreos/coreos-"+machine+".iso", name)
	return is
}

// checkISO returns an error unless a file begins as an ISO 9660 file system does.
func checkISO(content io.Reader) error {
	const magic = "CD001" // after 32 KiB and one byte
	head := make([]byte, 32<<10+1+len(magic))
	if _, err := io.ReadFull(content, head); err != nil {
		return fmt.Errorf("it is no ISO: %w", err)
	}
	if !bytes.HasSuffix(head, []byte(magic)) {
		return errors.New("it is no ISO")
	}
	return nil
}
