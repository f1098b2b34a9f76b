package imageset

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// FilesTransport is the transport of a catalog that is the files of a directory of this host.
const FilesTransport = "dir"

// Reference returns the name of the catalog. Besides images it may be a directory of files, whose
// path is absolute then.
func (o Operator) Reference() (Reference, error) {
	dir, files := strings.CutPrefix(o.Catalog, FilesTransport+"://")
	if !files {
		return ParseReference(o.Catalog)
	}
	if dir == "" {
		return Reference{}, hint.New(errors.New("catalog dir:// names no directory"), "write catalog: dir:///PATH, a directory of a file-based catalog")
	}
	dir, err := filepath.Abs(dir)
	if err == nil && !image.ValidRepository(path.Base(dir)) && o.TargetCatalog == "" {
		err = hint.New(fmt.Errorf("%q is not a name for a repository", path.Base(dir)), "name one with targetCatalog")
	}
	return Reference{Transport: FilesTransport, Path: dir}, err
}

// Destination returns where the catalog of a name is put, without the prefix of the destination; the
// tag is "" for one that is made of the digest.
func (o Operator) Destination(of Reference) (repository, tag string) {
	repository, tag = of.Path, of.Tag
	if of.IsLayout() || of.Transport == FilesTransport {
		repository = path.Base(of.Path)
		if of.IsLayout() {
			repository = strings.ToLower(repository) // as version 1 does: else no registry takes it
		}
		if tag == "" {
			tag = "latest"
		}
	}
	if o.TargetCatalog != "" {
		repository = o.TargetCatalog
	}
	if o.TargetTag != "" {
		tag = o.TargetTag
	}
	return repository, tag
}

// checkDestination reports a catalog that would take the place of another one, by the places of those
// before it.
func (d *decoder) checkDestination(at string, o Operator, taken map[string]string) {
	ref, err := o.Reference()
	if err != nil { // which is a failure of this catalog
		return
	}
	repository, tag := o.Destination(ref)
	if tag == "" {
		return
	}
	place := repository + ":" + tag
	if other := taken[place]; other != "" && other != o.Catalog {
		d.at(at, "give one of them another targetCatalog or targetTag",
			"catalog %q and catalog %q would both become %s", other, o.Catalog, place)
	}
	taken[place] = o.Catalog
}
