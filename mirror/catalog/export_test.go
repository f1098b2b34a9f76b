package catalog

import (
	"context"
	"io"

	"github.com/mirror-appliance/appliance/mirror/rebuild"
)

// Bare is bare.
func Bare() (*Catalog, error) { return bare() }

// Rebuild is rebuild.
func (c *Catalog) Rebuild(ctx context.Context, dir, tag string, write func(io.Writer) error) (*rebuild.Image, error) {
	return c.rebuild(ctx, dir, tag, write)
}
