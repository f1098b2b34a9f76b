package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newInventoryCommand(std stdio) *cobra.Command {
	var o locateOptions
	c := &cobra.Command{
		Use:   "inventory",
		Short: "List what the registry has, so that an archive for it leaves that out",
		Long: `List what the registry has, so that an archive for it leaves that out: the digests of content that images
need, and the tags. The last line is a checksum. On the connected side: appliance mirror --have FILE.`,
		Example: "  appliance inventory > inventory.txt",
		Args:    noArguments,
		RunE:    func(c *cobra.Command, _ []string) error { return runInventory(c.Context(), std, o) },
	}
	o.addFlags(c.Flags())
	return c
}

func runInventory(ctx context.Context, std stdio, o locateOptions) error {
	o.existing = true
	return withControl(ctx, std, &o, func(control *client.Client) error {
		w := archive.NewInventoryWriter(std.out, time.Now())
		err := control.Inventory(ctx, func(part api.Inventory) {
			for _, d := range part.Digests {
				w.Blob(d)
			}
			for _, t := range part.Tags {
				w.Tag(t.Repository, t.Tag, t.Digest)
			}
		})
		if err != nil { // without its last line the list is of no use
			return err
		}
		return w.Close()
	})
}
