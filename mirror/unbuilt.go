package mirror

import (
	"fmt"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// refuseUnbuilt returns an error for the first key of the configuration that asks for what is not
// built yet. Operator catalogs are not copied as plain images instead: without its bundles a
// catalog offers a cluster what it cannot install.
func refuseUnbuilt(c *imageset.Config) error {
	m := c.Mirror
	type key struct {
		used       bool
		path, what string
		instead    string
	}
	keys := []key{
		{len(m.Operators) > 0, "mirror.operators", "mirroring operator catalogs (mirror.operators)",
			"take mirror.operators out of the file"},
		{layout(m.Platform.Release), "mirror.platform.release", "mirroring from oci://", ""},
	}
	for i, a := range m.AdditionalImages {
		at := fmt.Sprintf("mirror.additionalImages[%d]", i)
		keys = append(keys, key{layout(a.Name), at + ".name", "mirroring from oci://", ""})
	}
	for _, k := range keys {
		if !k.used {
			continue
		}
		if k.instead == "" {
			k.instead = "take it out of the file"
		}
		return hint.New(fmt.Errorf("%s: %s is not built yet", c.At(k.path), k.what),
			k.instead+"; nothing has been written")
	}
	return nil
}

// layout reports whether a reference names an OCI layout on disk.
func layout(name string) bool {
	ref, err := imageset.ParseReference(name)
	return err == nil && ref.Transport == "oci"
}
