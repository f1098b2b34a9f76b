package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// OfV1 is a catalog in an archive of oc-mirror v1.
type OfV1 struct {
	Name            string // HOST/PATH:TAG or HOST/PATH@DIGEST, see imageset.Operator.UniqueName
	Repository, Tag string // where version 1 publishes it
	// Root is the image of the catalog as it was, and Index returns what is left of its content,
	// one file.
	Root  digest.Digest
	Index func() io.Reader
}

// shortV1 returns the tag that version 1 makes of a digest.
func shortV1(d digest.Digest) string {
	const shown = 6
	if d == "" {
		return ""
	}
	return d.Encoded()[:shown]
}

// all returns the entries: those of the configuration, and what else an archive of version 1 has.
func (c *Collector) all() (all []*entry) {
	more := slices.Clone(c.OfV1)
	for n, o := range c.Config.Mirror.Operators {
		e := c.entry(n)
		name := strings.ToLower(strings.Trim(o.UniqueName(), "/"))
		is := func(v OfV1) bool { return v.Name == name || strings.HasPrefix(v.Name, name+"@") } // a layout needs no tag
		if at := slices.IndexFunc(more, is); at >= 0 {
			e.published(more[at])
			more = slices.Delete(more, at, at+1)
		}
		all = append(all, e)
	}
	for _, v := range more {
		e := &entry{Collector: c, image: &plan.Image{Type: plan.OperatorCatalog, Reason: c.Config.File}}
		e.published(v)
		all = append(all, e)
	}
	return all
}

// published makes the entry one for a catalog as an archive of version 1 has it, under the name
// that it has there: several may be of one original.
func (e *entry) published(v OfV1) {
	e.v1, e.image.Origin, e.image.UniqueName = &v, v.Name, v.Name
	e.ask = imageset.Operator{Catalog: v.Name, TargetCatalog: v.Repository, TargetTag: v.Tag, Full: true}
	e.left = e.ask
}

// findInV1 finds the catalog in an archive of version 1: the image as it was, and its content as it
// is to be.
func (e *entry) findInV1(ctx context.Context) (err error) {
	if e.v1 == nil {
		return hint.New(fmt.Errorf("the archive has no catalog %s", e.ask.Catalog),
			"leave -c out: the archive has its image set; or mirror from the archive that has the catalog")
	}
	e.base = imageset.Reference{Transport: "docker", Path: e.v1.Repository, Digest: e.v1.Root}
	if e.catalog, err = e.open(ctx, e.base); err != nil {
		return err
	}
	all := digest.Canonical.Digester()
	fmt.Fprintln(all.Hash(), e.v1.Root)
	if _, err := io.Copy(all.Hash(), e.v1.Index()); err != nil {
		return err
	}
	e.plain, e.original = true, all.Digest()
	dir := e.path(e.original.Encoded(), filesDir)
	if _, err := os.Stat(dir); err != nil {
		if err := writeIndexV1(dir, e.v1.Index()); err != nil {
			return fmt.Errorf("write the catalog to the workspace: %w", err)
		}
	}
	if err := e.readFiles(ctx, dir); err != nil {
		return err
	}
	return e.use()
}

// writeIndexV1 writes the file of a catalog to a directory, which is there when the file is whole.
func writeIndexV1(dir string, content io.Reader) error {
	next := dir + ".next"
	if err := errors.Join(os.RemoveAll(next), os.MkdirAll(next, 0o755)); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(next, "index.json"))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if err = durable.Finish(file, err); err != nil {
		return err
	}
	return os.Rename(next, dir)
}
