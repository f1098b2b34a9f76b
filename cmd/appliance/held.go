package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

func newImageSetCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use: "imageset", Short: "Image set configurations of what there is",
		Args: noSuchCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newFromStoreCommand(std))
	return c
}

type fromStoreOptions struct {
	applianceOptions
	output string
}

func newFromStoreCommand(std stdio) *cobra.Command {
	var o fromStoreOptions
	c := &cobra.Command{
		Use:   "from-store [docker://HOST:PORT] [-o FILE]",
		Short: "Write an ImageSetConfiguration of what an appliance has",
		Long: `Write an ImageSetConfiguration (v2alpha1) of what was mirrored into the appliance of this host, or into another, as a
user of role admin: channels with the releases that they led to, operator catalogs with the packages, channels and
versions that they have, and additional images. What was not recorded, or what a configuration cannot say, is in
comments. The same content gives the same file.`,
		Example: "  appliance imageset from-store -o imageset.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return runFromStore(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	c.Flags().StringVarP(&o.output, "output", "o", "-", "the file to write; - for standard output")
	return c
}

func runFromStore(ctx context.Context, std stdio, o fromStoreOptions, args []string) error {
	var text []byte
	err := o.ask(ctx, std, args, func(control *client.Client) (err error) {
		text, err = heldImageSet(ctx, control)
		return err
	})
	if err != nil || o.output == "-" {
		if err == nil {
			_, err = std.out.Write(text)
		}
		return err
	}
	if err := replaceFile(o.output, text); err != nil {
		return err
	}
	fmt.Fprintln(std.out, o.output)
	return nil
}

// replaceFile writes a file that a reader sees whole. Through a link it writes the file that the link
// leads to, and into what is no regular file, such as /dev/stdout, it writes as it is.
func replaceFile(path string, data []byte) error {
	if path == "" {
		return hint.New(errors.New("the file to write has no name"), "name one with -o, or - for standard output")
	}
	if at, err := filepath.EvalSymlinks(path); err == nil {
		path = at
	}
	if f, err := openSpecial(path); f != nil || err != nil {
		return writeInto(f, err, data)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = durable.Replace(path, tmp, data)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// openSpecial opens what is no regular file, such as a device or a pipe: to replace it by a file would break
// the host. It returns nil for what can be replaced or made.
func openSpecial(path string) (*os.File, error) {
	switch info, err := os.Stat(path); {
	case err != nil || info.Mode().IsRegular():
		return nil, nil
	case info.IsDir():
		return nil, hint.New(fmt.Errorf("write %s: it is a directory", path), "name a file in it")
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}

func writeInto(f *os.File, err error, data []byte) error {
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func heldImageSet(ctx context.Context, control *client.Client) ([]byte, error) {
	recorded, err := control.Origins(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, o := range recorded {
		known[o.Repository+":"+o.Tag] = true
		if mirror.IsView(o.About) { // which has its original beside it
			known[o.Repository+":"+o.Tag+config.OriginalSuffix] = true
		}
	}
	var unrecorded []string
	err = control.Inventory(ctx, func(part api.Inventory) {
		for _, t := range part.Tags {
			attached := strings.HasPrefix(t.Tag, "sha256-") && strings.Contains(t.Tag, ".")
			if name := t.Repository + ":" + t.Tag; !known[name] && !attached {
				unrecorded = append(unrecorded, name)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return mirror.HeldImageSet(origins(recorded), unrecorded, func(at mirror.Place) (*catalog.Content, error) {
		return readHeld(ctx, control, at)
	})
}

// readHeld has the appliance read one of its catalogs.
func readHeld(ctx context.Context, control *client.Client, at mirror.Place) (*catalog.Content, error) {
	answer, err := control.Catalog(ctx, api.Place(at))
	var refused *client.Refused
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		return nil, &mirror.CatalogError{Reason: "this appliance is of an older version"}
	case err != nil:
		return nil, err
	case answer.Error != "":
		return nil, &mirror.CatalogError{Reason: answer.Error}
	}
	content := &catalog.Content{}
	return content, json.Unmarshal(answer.Content, content)
}

// origins are those that an appliance has recorded, as package mirror reads them.
func origins(recorded []api.Origin) []mirror.Origin {
	var all []mirror.Origin
	for _, o := range recorded {
		all = append(all, mirror.Origin{Repository: o.Repository, Tag: o.Tag, About: o.About, Recorded: o.Recorded})
	}
	return all
}
