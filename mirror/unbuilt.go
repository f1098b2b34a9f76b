package mirror

import (
	"fmt"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// refuseUnbuilt returns an error for the first key of the configuration that asks for what is not
// built yet.
func refuseUnbuilt(c *imageset.Config) error {
	if c.Storage.IsSet() {
		return hint.New(fmt.Errorf("%s: keeping the history of oc-mirror v1 (storageConfig) is not built yet", c.At("storageConfig")),
			"take storageConfig out of the file: a run copies what the destination lacks; nothing has been written")
	}
	if at := minBundle(c.Mirror.Operators); at != "" {
		return hint.New(fmt.Errorf("%s: selecting by minBundle is not built yet", c.At(at)),
			"write minVersion and the version of the bundle; nothing has been written")
	}
	return nil
}

// minBundle returns the first key of that name, "" if there is none.
func minBundle(operators []imageset.Operator) string {
	for i, o := range operators {
		for j, p := range o.Packages {
			at := fmt.Sprintf("mirror.operators[%d].packages[%d]", i, j)
			if p.MinBundle != "" {
				return at + ".minBundle"
			}
			for k, ch := range p.Channels {
				if ch.MinBundle != "" {
					return fmt.Sprintf("%s.channels[%d].minBundle", at, k)
				}
			}
		}
	}
	return ""
}
