package archive

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// others are the images of the archive that is there which the image set of the new one does not ask
// for. That archive is likely not carried yet, since it is without some images, and may be of another
// image set: the one that takes its place has them too.
type others struct {
	*images
	from *Archive // open until their blobs are there; nil: there are none
	came []string // those that came along, as repository:tag
}

// of reports whether the archive was made with an image set.
func (s *standing) of(imageSet []byte) bool {
	return s.contents != nil && slices.ContainsFunc(s.contents.Entries, func(e entry) bool {
		return strings.HasPrefix(e.Name, "isc_") && e.Digest == digest.FromBytes(imageSet)
	})
}

// others returns the tags of the archive that the plan does not have. After the same image set these
// are the ones that were of another one then: the rest is not asked for any more.
func (s *standing) others(p *plan.Plan, imageSet []byte) []string {
	tags := slices.Sorted(maps.Keys(s.tags))
	if s.of(imageSet) {
		tags = slices.Clone(s.contents.Others)
	}
	asked := map[string]bool{}
	for _, i := range p.Images {
		asked[i.Repository+":"+i.Tag] = true
	}
	return slices.DeleteFunc(tags, func(name string) bool { return asked[name] || s.tags[name] == "" })
}

// readOthers reads the images that come along.
func (w *Writer) readOthers(ctx context.Context, p *plan.Plan) (err error) {
	w.others = others{images: newImages()}
	if !w.takesOver() || w.o.DryRun {
		return nil
	}
	tags := w.here.others(p, w.o.ImageSet)
	if len(tags) == 0 {
		return nil
	}
	if w.others.from, _, err = open(ctx, w.here.files(), false); err != nil {
		return err
	}
	in := map[string][]digest.Digest{}
	for _, e := range w.here.contents.Entries {
		if repo, d, ok := parseRevision(e.Name); ok {
			in[repo] = append(in[repo], d)
		}
	}
	for _, name := range tags {
		repo, tag, _ := strings.Cut(name, ":")
		for _, m := range in[repo] {
			if err := w.others.copyManifest(ctx, repo, m); err != nil {
				return err
			}
		}
		if err := w.others.tag(map[string]map[string]digest.Digest{repo: {tag: w.here.tags[name]}}); err != nil {
			return err
		}
	}
	return nil
}

func (o *others) copyManifest(ctx context.Context, repo string, d digest.Digest) error {
	if o.has(repo, d) {
		return nil
	}
	desc, body, err := o.from.Repository(repo, repo).Manifest(ctx, d.String())
	if err != nil {
		return err
	}
	return o.put(repo, desc, body)
}

// blobs returns the blobs of all of them.
func (o *others) blobs() map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	for repo := range o.tags {
		maps.Copy(all, o.tagged(repo).blobs)
	}
	return all
}

// copyOthers copies the blobs of the images that come along which a run that was interrupted did not
// take over.
func (w *Writer) copyOthers(ctx context.Context) (err error) {
	from := w.others.from
	if from == nil {
		return nil
	}
	for d := range w.others.blobs() {
		w.mu.Lock()
		has := w.blobs[d] != nil
		w.mu.Unlock()
		at, ok := from.blobs[d]
		if has || !ok { // or the archive left it out
			continue
		}
		content := io.NewSectionReader(at.reader, at.offset, at.size)
		if err := w.PutBlob(ctx, "", ocispec.Descriptor{Digest: d, Size: at.size}, content); err != nil {
			return err
		}
	}
	return nil
}

// addOthers adds the images that come along to those of the run, which may have their tags by now.
func (w *Writer) addOthers() error {
	for _, repo := range slices.Sorted(maps.Keys(w.others.tags)) {
		for d := range w.others.tagged(repo).blobs {
			if !w.has(repo, d) { // --since or an inventory name another base than the one of that archive
				w.o.Say("%s in %s leaves out content of %s that this one would have to have, so this one is without that: have it carried", w.here, w.o.Dir, repo)
				delete(w.others.tags, repo)
				break
			}
		}
		for tag, d := range w.others.tags[repo] {
			if _, taken := w.images.tags[repo][tag]; taken {
				continue
			}
			for m := range w.others.in[repo] {
				of := w.others.manifests[m]
				if err := w.images.put(repo, ocispec.Descriptor{MediaType: of.mediaType, Digest: m}, of.body); err != nil {
					return err
				}
			}
			if err := w.images.tag(map[string]map[string]digest.Digest{repo: {tag: d}}); err != nil {
				return err
			}
			w.others.came = append(w.others.came, repo+":"+tag)
		}
	}
	w.dropOthers()
	if n := len(w.others.came); n > 0 {
		w.o.Say("%s has images that this image set does not ask for: they come along, with %d tags", w.here, n)
	}
	return nil
}

// dropOthers gives up what was kept for a tag that the run has put somewhere else.
func (w *Writer) dropOthers() {
	unused := w.others.blobs()
	for repo := range w.images.tags {
		for d := range w.images.tagged(repo).blobs {
			delete(unused, d)
		}
	}
	if p := w.images.plan; p != nil {
		for _, b := range p.Distinct() {
			delete(unused, b.Digest)
		}
	}
	w.drop(w.blobs, func(d digest.Digest) bool { return unused[d] })
}

// close closes the files of the archive that they are read from.
func (o *others) close() error {
	if o.from == nil {
		return nil
	}
	return o.from.Close()
}

// listedOthers returns those that came along as the archive that is there lists them.
func (w *Writer) listedOthers() (all []Image) {
	if len(w.others.came) == 0 {
		return nil
	}
	for _, i := range w.here.contents.Images {
		if slices.Contains(w.others.came, i.Repository+":"+i.Tag) {
			all = append(all, i)
		}
	}
	return all
}
