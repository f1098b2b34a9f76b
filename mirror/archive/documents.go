package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// carried are the directories of working-dir that an import needs. Logs, cluster resources and
// history stay.
var carried = []string{"hold-release", "signatures", "sigstore", "helm", "operator-catalogs"}

// pinned are the files beside them.
var pinned = []string{"isc_pinned_*", "disc_pinned_*"}

// versionFile is oc-mirror's, which warns without it.
const versionFile = "internal/oc-mirror-version.json"

// ofOriginal reports whether a file is of an operator catalog as it was, or an image: an import needs
// what is left of a catalog and the digest of its image, operator-catalogs/NAME/DIGEST/
// filtered-catalogs/KEY/catalog-config and digest, and the image is among the blobs.
func ofOriginal(name string) bool {
	parts := strings.Split(name, "/")
	if parts[0] != "operator-catalogs" {
		return false
	}
	return len(parts) < 6 || parts[3] != "filtered-catalogs" || parts[5] != "digest" && parts[5] != "catalog-config"
}

// movedAside reports whether a directory is what another user's run has left of a catalog, which may be
// unreadable: it is not named by its digest alone.
func movedAside(name string) bool {
	parts := strings.Split(name, "/")
	return parts[0] == "operator-catalogs" && len(parts) == 3 && strings.Contains(parts[2], ".")
}

// maxDocument bounds a document: it is read into memory.
const maxDocument = 256 << 20

// documents writes what the workspace has for an import.
func (c *committing) documents() error {
	version, err := json.MarshalIndent(map[string]string{"gitVersion": c.o.Version, "gitCommit": ""}, "", "  ")
	if err == nil {
		err = c.add(entry{Name: workingDir + versionFile}, append(version, '\n'))
	}
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Join(c.o.Dir, workingDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the workspace: %w", err)
	}
	defer root.Close()
	for _, dir := range carried {
		err := fs.WalkDir(root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && name == dir:
				return nil
			case err != nil:
				return fmt.Errorf("read the workspace: %w", err)
			case d.IsDir() && movedAside(name): // of a file, SkipDir would leave out what follows it
				return fs.SkipDir
			case !d.Type().IsRegular() || strings.HasSuffix(name, ".tmp") || ofOriginal(name):
				return nil
			}
			return c.document(root, name)
		})
		if err != nil {
			return err
		}
	}
	for _, pattern := range pinned {
		names, err := fs.Glob(root.FS(), pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := c.document(root, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *committing) document(root *os.Root, name string) error {
	info, err := root.Stat(name)
	if err == nil && info.Size() > maxDocument {
		err = fmt.Errorf("%s has %d bytes, more than the %d that an archive takes", name, info.Size(), maxDocument)
	}
	var data []byte
	if err == nil {
		data, err = root.ReadFile(name)
	}
	if err != nil {
		return fmt.Errorf("read the workspace: %w", err)
	}
	return c.add(entry{Name: path.Join(workingDir, name)}, data)
}

// fits returns an error if a plan does not fit: a file into a chunk, if that is asked for, and all
// of it onto the medium.
func (w *Writer) fits(p *plan.Plan) error {
	wanted := map[digest.Digest]bool{}
	for _, b := range p.Distinct() {
		wanted[b.Digest] = true
		if w.o.Strict && w.blobs[b.Digest] == nil && !w.base.digests[b.Digest] &&
			3*block+padded(b.Size)+infoLength+trailer > w.o.ChunkSize {
			gib := w.o.ChunkSize >> 30
			return hint.New(fmt.Errorf("maxArchiveSize %dG is too small compared to sizes of files that need to be included in the archive: blob %s has %d bytes. Aborting archive generation", gib, b.Digest, b.Size),
				fmt.Sprintf("set archiveSize: %d in the image set configuration, or leave --strict-archive out", b.Size>>30+1))
		}
	}
	free, _, err := diskspace.Bytes(w.o.Dir)
	if err != nil {
		return err
	}
	need := p.Missing + margin + w.copies + w.o.Beside
	for d, torn := range w.torn {
		if wanted[d] {
			need -= torn.came // it is on the medium already
		}
	}
	for _, i := range p.Images {
		for _, m := range i.Manifests {
			need += int64(len(m.Body))
		}
	}
	if need > free {
		return &refusedError{hint.New(fmt.Errorf("the archive needs %s, and %s has %s free", humanize.IBytes(uint64(need)), w.o.Dir, humanize.IBytes(uint64(max(free, 0)))),
			"free space there (an archive that is there is replaced at the end only), or name a directory with more of it; nothing is written")}
	}
	return nil
}

// margin is for what is not in a plan: links, documents, headers.
const margin = 16 << 20
