package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// newManCommand is for packages: cmd/dist runs it. The date of the pages is that of SOURCE_DATE_EPOCH
// (https://reproducible-builds.org/specs/source-date-epoch), so that a second build makes the same.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write a manual page for each command",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			date := time.Now()
			if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
				seconds, err := strconv.ParseInt(epoch, 10, 64)
				if err != nil {
					return hint.New(fmt.Errorf("SOURCE_DATE_EPOCH: %w", err), "set it to seconds since 1970, or unset it")
				}
				date = time.Unix(seconds, 0).UTC()
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			c.Root().DisableAutoGenTag = true
			return doc.GenManTree(c.Root(), &doc.GenManHeader{
				Title: "APPLIANCE", Section: "1", Date: &date, Source: "appliance " + version, Manual: "Appliance",
			}, args[0])
		},
	}
}
