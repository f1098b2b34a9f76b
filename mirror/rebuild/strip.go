package rebuild

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/layers"
)

// directory is one that is taken out of the layers.
type directory struct {
	name    string // as entries have it
	emptied bool   // only what is in it goes
}

func newDirectory(name string) (directory, error) {
	d := directory{strings.TrimPrefix(path.Clean("/"+name), "/"), strings.HasSuffix(name, "/")}
	if d.name == "" {
		return d, fmt.Errorf("directory %q of the image cannot be taken out of it: it is the root", name)
	}
	return d, nil
}

// has reports whether an entry goes with the directory: what is there, and whiteouts of that.
func (d directory) has(e layers.Entry) bool {
	if d.emptied && e.Name == d.name && e.Kind != layers.Opaque {
		return false
	}
	return e.In(d.name)
}

// stripped is what is left of a layer.
type stripped struct {
	touched bool  // it differs
	left    layer // none if nothing is left
}

// strip takes the directories out of the layers of a manifest, and out of its configuration. Layers
// without them stay as they are.
func (b *builder) strip(ctx context.Context, manifest string, all []ocispec.Descriptor, c *config) (left []ocispec.Descriptor, err error) {
	if len(b.without) == 0 {
		return all, nil
	}
	gone := map[int]bool{}
	diffIDs := map[int]digest.Digest{}
	for n, l := range all {
		s, ok := b.stripped[l.Digest]
		if !ok {
			if s, err = b.stripLayer(ctx, l); err != nil {
				return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
			}
			b.stripped[l.Digest] = s
		}
		switch {
		case !s.touched:
			left = append(left, l)
		case s.left.digest == "":
			gone[n] = true
		default:
			diffIDs[n] = s.left.diffID
			left = append(left, s.left.descriptor(manifest))
		}
	}
	if len(c.rootfs.DiffIDs) == len(all) {
		for n, d := range diffIDs {
			c.rootfs.DiffIDs[n] = d
		}
	}
	return left, c.without(gone, len(all))
}

// Ends of a reading: an entry that goes, and a layer of which nothing is left.
var (
	errTouched = errors.New("an entry that goes")
	errGone    = errors.New("nothing is left")
)

// stripLayer reads a layer, and if it has entries that go, again to write the others.
func (b *builder) stripLayer(ctx context.Context, l ocispec.Descriptor) (stripped, error) {
	if len(l.URLs) > 0 || strings.Contains(l.MediaType, ".foreign.") || strings.Contains(l.MediaType, ".nondistributable.") {
		return stripped{}, nil
	}
	err := b.readLayer(ctx, l, func(e layers.Entry, _ io.Reader) error {
		if b.goes(e) {
			return errTouched
		}
		return b.dangles(e)
	})
	if !errors.Is(err, errTouched) {
		return stripped{}, err
	}
	left, err := b.files.layer(func(w io.Writer) error { return b.copyEntries(ctx, l, w) })
	if errors.Is(err, errGone) {
		err = nil
	}
	return stripped{true, left}, err
}

func (b *builder) readLayer(ctx context.Context, l ocispec.Descriptor, visit func(layers.Entry, io.Reader) error) error {
	body, _, err := b.base.Blob(ctx, l.Digest)
	if err != nil {
		return err
	}
	return errors.Join(layers.Read(body, visit), body.Close())
}

func (b *builder) goes(e layers.Entry) bool {
	for _, d := range b.without {
		if d.has(e) {
			return true
		}
	}
	return false
}

// dangles returns an error for a hard link that stays although its file goes.
func (b *builder) dangles(e layers.Entry) error {
	if e.Kind == layers.Hardlink && b.goes(layers.Entry{Name: e.Target}) {
		return fmt.Errorf("it is a hard link to %s, which is taken out of the image", e.Target)
	}
	return nil
}

// copyEntries writes the entries of a layer that stay: errGone if there are none.
func (b *builder) copyEntries(ctx context.Context, l ocispec.Descriptor, w io.Writer) error {
	t, entries := tar.NewWriter(w), 0
	err := b.readLayer(ctx, l, func(e layers.Entry, content io.Reader) error {
		if b.goes(e) {
			return nil
		}
		if err := b.dangles(e); err != nil {
			return err
		}
		entries++
		if err := t.WriteHeader(header(e.Header)); err != nil {
			return err
		}
		if e.Kind != layers.File {
			return nil
		}
		_, err := io.Copy(t, content)
		return err
	})
	if err == nil && entries == 0 {
		return errGone
	}
	return errors.Join(err, t.Close())
}

// header returns the header of an entry as it can be written: a sparse file with its holes.
func header(h *tar.Header) *tar.Header {
	changed := *h
	if h.Typeflag == tar.TypeGNUSparse {
		changed.Typeflag, changed.Format = tar.TypeReg, tar.FormatUnknown
	}
	for name := range h.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			delete(changed.PAXRecords, name)
		}
	}
	return &changed
}
