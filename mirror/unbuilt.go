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
	return nil
}
