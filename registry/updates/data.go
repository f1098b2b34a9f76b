package updates

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// graphRepositories are what the names of repositories with graph data end in: oc-mirror's and this
// program's, and that of OpenShift's documentation.
func graphRepositories() []string { return []string{"graph-image", "graph-data"} }

// graphImage is an image with graph data.
type graphImage struct {
	store.Tag
	moved   time.Time // since when its tag names it
	data    *graphdata.Data
	files   graphdata.Files
	archive []byte // of its files
	err     error  // for which it cannot be used
}

// graph computes the graph of a pass.
func (s *scanner) graph(ctx context.Context, recorded []mirror.Origin, trust *trust, next *state) error {
	problems := next.problems
	for _, i := range next.unread {
		problems = append(problems, graphdata.Problem{Where: i.Repository + ":" + i.Name, What: i.Err.Error()})
	}
	all, err := s.graphImages(ctx, recorded, trust)
	if err != nil {
		return err
	}
	for _, image := range all {
		if image.err == nil {
			if err := s.readData(ctx, &image); err != nil {
				return err
			}
		}
		if image.err != nil {
			problems = append(problems, graphdata.Problem{Where: image.Repository + ":" + image.Name, What: image.err.Error()})
			continue
		}
		next.data = image
		break
	}
	next.problems = problems
	if next.data.data == nil {
		next.why = noData
		return nil
	}
	s.data = next.data
	next.signed(s.Log)
	next.graph = graphdata.Build(next.releases, next.data.data)
	next.problems = slices.Concat(problems, next.graph.Problems())
	return nil
}

// noData is the answer without graph data. It is given without a login, and therefore names no
// repository: appliance updates show lists the images that cannot be used.
const noData = "there is no graph data here that can be used: mirror it with platform.graph: true, or bring an archive of it: appliance updates load FILE"

// graphImages returns the images with graph data, the newest first.
func (s *scanner) graphImages(ctx context.Context, recorded []mirror.Origin, trust *trust) ([]graphImage, error) {
	var all []graphImage
	held, err := mirror.HeldGraphs(recorded)
	if err != nil {
		return nil, err
	}
	for _, h := range held {
		all = append(all, graphImage{Tag: store.Tag{Repository: h.Repository, Name: h.Tag, Digest: h.Digest}})
	}
	for _, name := range graphRepositories() {
		tags, err := s.Store.Tags.Matching(ctx, "*"+name, "*")
		if err != nil {
			return nil, err
		}
		for _, t := range tags {
			if path.Base(t.Repository) != name || attachment(t.Name) {
				continue
			}
			image := graphImage{Tag: t}
			if distrust, err := trust.distrust(ctx, t); err != nil {
				return nil, err
			} else if distrust != "" {
				image.err = errors.New(distrust)
			}
			all = append(all, image)
		}
	}
	for i, image := range all {
		moves, err := s.Store.Tags.Moves(ctx, image.Repository, image.Name)
		if err != nil {
			return nil, err
		}
		if len(moves) > 0 {
			all[i].moved = moves[len(moves)-1].Moved
		}
	}
	slices.SortStableFunc(all, func(a, b graphImage) int { return b.moved.Compare(a.moved) })
	return all, nil
}

// readData reads the graph data of an image, unless it is that of the last pass. Why it cannot be
// used is in the image: an older one is used then.
func (s *scanner) readData(ctx context.Context, of *graphImage) error {
	if s.data.Digest == of.Digest && s.data.data != nil {
		of.data, of.files, of.archive = s.data.data, s.data.files, s.data.archive
		return nil
	}
	of.err = of.read(ctx, stored.Repository{Store: s.Store, Name: of.Repository})
	return ctx.Err()
}

func (g *graphImage) read(ctx context.Context, repo stored.Repository) (err error) {
	all, err := imageLayers(ctx, repo, g.Digest)
	if err != nil {
		return err
	}
	c := collection{files: graphdata.Files{}}
	for _, d := range all {
		if err := c.layer(ctx, repo, d); err != nil {
			return fmt.Errorf("layer %s: %w", d, err)
		}
	}
	g.files = c.files.Select()
	if g.data, err = graphdata.Read(g.files); err != nil {
		return fmt.Errorf("it has no graph data that can be used: %w", err)
	}
	g.archive, err = archive(g.files)
	return err
}

// imageLayers returns the layers of an image, from the bottom to the top; of a list, those of the first
// image that is here.
func imageLayers(ctx context.Context, repo stored.Repository, d digest.Digest) ([]digest.Digest, error) {
	desc, body, err := repo.Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	m, err := image.Parse(desc.MediaType, body)
	if err != nil {
		return nil, err
	}
	var all []digest.Digest
	for _, r := range m.References {
		switch r.Kind {
		case image.Layer:
			all = append(all, r.Digest)
		case image.Child:
			found, err := imageLayers(ctx, repo, r.Digest)
			if err == nil && len(found) > 0 {
				return found, nil
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it has no layers")
	}
	return all, nil
}

// collection collects the files of graph data from layers.
type collection struct {
	files graphdata.Files // by their whole names in the image
	bytes int64
}

// layer applies a layer to what those below it have.
func (c *collection) layer(ctx context.Context, repo stored.Repository, d digest.Digest) error {
	body, _, err := repo.Blob(ctx, d)
	if err != nil {
		return err
	}
	fresh := graphdata.Files{} // whiteouts are about the layers below
	err = layers.Read(&reader{ctx, body}, func(e layers.Entry, content io.Reader) error {
		switch e.Kind {
		case layers.Whiteout, layers.Opaque:
			maps.DeleteFunc(c.files, func(name string, _ []byte) bool { return layers.Entry{Name: strings.TrimSuffix(name, "/")}.In(e.Name) })
		case layers.Directory:
			if base := path.Base(e.Name); base == "channels" || base == "blocked-edges" {
				fresh[e.Name+"/"] = nil
			}
		case layers.File:
			if !graphdata.IsFile(e.Name) {
				return nil
			}
			c.bytes += e.Header.Size
			if c.bytes > graphdata.MaxArchiveBytes || len(c.files)+len(fresh) >= graphdata.MaxArchiveFiles {
				return fmt.Errorf("graph data of more than %d bytes or %d files is not read", graphdata.MaxArchiveBytes, graphdata.MaxArchiveFiles)
			}
			text, err := io.ReadAll(content)
			fresh[e.Name] = text
			return err
		}
		return nil
	})
	maps.Copy(c.files, fresh)
	return errors.Join(err, body.Close())
}

// archive writes files as a gzipped tar. The same files give the same bytes.
func archive(files graphdata.Files) ([]byte, error) {
	var all []layers.NewFile
	for name, text := range files {
		if !strings.HasSuffix(name, "/") {
			all = append(all, layers.NewFile{Name: name, Size: int64(len(text)), Write: func(w io.Writer) error { _, err := w.Write(text); return err }})
		}
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	err := errors.Join(layers.Write(z, all), z.Close())
	return b.Bytes(), err
}
