package release

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/layers"
)

// BootComponent is the component that has the ISO from which hosts boot.
const BootComponent = "machine-os-images"

var errFound = errors.New("it was found")

// FindISO returns the name of the ISO that openshift-install takes out of the image of BootComponent, for
// an architecture as in names of ISOs, such as x86_64; "" is any. It reads the layers, the lowest first
// among all, down to the ISO, and of that the beginning.
func FindISO(all []digest.Digest, open Open, machine string) (name string, err error) {
	for _, d := range slices.Backward(all) {
		body, err := open(d)
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
			return "", fmt.Errorf("%s in %s: %w", name, BootComponent, bad)
		case name != "":
			return name, nil
		case err != nil:
			return "", err
		}
	}
	return "", fmt.Errorf("%s has no coreos/coreos-%s.iso", BootComponent, cmp.Or(machine, "ARCH"))
}

// isISO reports whether a file is the one that openshift-install takes.
func isISO(name, machine string) bool {
	is, _ := path.Match("coreos/coreos-"+cmp.Or(machine, "*")+".iso", name)
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
