package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// Repository is the images that were pulled from one repository. It is a mirror.Source. Content is
// found by digest wherever it is.
type Repository struct {
	archive    *Archive
	name, path string
}

// Repository returns the images that were pulled from name, whose path below the registry is path.
func (a *Archive) Repository(name, path string) *Repository { return &Repository{a, name, path} }

// Alias says that the image with a reference is under a repository and a tag of another name.
func (a *Archive) Alias(reference, repository, tag string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.aliases[reference] = repository + ":" + tag
}

// releases is where oc-mirror has the payloads of all releases.
const releases = "openshift/release-images"

// resolve returns the digest that a tag had when the archive was made.
func (r *Repository) resolve(tag string) (digest.Digest, bool) {
	if d, ok := r.archive.origins[r.name+":"+tag]; ok {
		return d, true
	}
	r.archive.mu.Lock()
	alias := r.archive.aliases[r.name+":"+tag]
	r.archive.mu.Unlock()
	names := []string{alias, r.path + ":" + tag, ":" + tag}
	if strings.Contains(path.Base(r.path), "release") {
		names = append(names, releases+":"+tag)
	}
	for _, name := range names {
		if d, ok := r.archive.tags[name]; ok {
			return d, true
		}
	}
	return "", false
}

// Manifest returns what a tag or a digest names.
func (r *Repository) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	if err := ctx.Err(); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	d := digest.Digest(ref)
	if image.CheckDigest(d) != nil {
		var ok bool
		if d, ok = r.resolve(ref); !ok {
			return ocispec.Descriptor{}, nil, r.absentImage(":", ref)
		}
	}
	body, err := r.archive.content(d)
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, nil, r.absentImage("@", ref)
	}
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	mediaType := r.archive.types[d]
	if mediaType == "" {
		mediaType = mediaTypeOf(body)
	}
	r.archive.learn(mediaType, body)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}, body, nil
}

// Referrers lists the manifests whose subject is d: those that the archive's list names, and those
// of the tag that stands for the referrers API.
func (r *Repository) Referrers(ctx context.Context, d digest.Digest) (all []ocispec.Descriptor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, of := range r.archive.referrers[d] {
		desc, _, err := r.Manifest(ctx, of.String())
		if err != nil {
			return nil, err
		}
		all = append(all, desc)
	}
	list, ok := r.archive.tags[r.path+":"+d.Algorithm().String()+"-"+d.Encoded()]
	if !ok || list == d { // oc-mirror names images without a tag like that too
		return all, nil
	}
	body, err := r.archive.content(list)
	if err != nil {
		return all, nil
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return all, nil
	}
	for _, m := range index.Manifests {
		if !slices.ContainsFunc(all, func(o ocispec.Descriptor) bool { return o.Digest == m.Digest }) {
			all = append(all, m)
		}
	}
	return all, nil
}

// content reads a manifest and verifies it.
func (a *Archive) content(d digest.Digest) ([]byte, error) {
	at, ok := a.blobs[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	body, err := at.read(image.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	if d.Algorithm().FromBytes(body) != d {
		return nil, at.damaged("manifest %s has other content", d)
	}
	return body, nil
}

// mediaTypeOf returns the media type that a manifest names, or the one of its shape.
func mediaTypeOf(body []byte) string {
	var m struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	switch err := json.Unmarshal(body, &m); {
	case err == nil && m.MediaType != "":
		return m.MediaType
	case err == nil && m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// learn notes the sizes of the blobs that a manifest names.
func (a *Archive) learn(mediaType string, body []byte) {
	parsed, err := image.Parse(mediaType, body)
	if err != nil {
		return // the caller finds that out too
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range parsed.References {
		a.sizes[r.Digest] = r.Size
	}
}

// Stat returns the size of a blob. One that the archive leaves out, since the far side has it,
// counts: an image is in an archive only when its source had all of it.
func (r *Repository) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if at, ok := r.archive.blobs[d]; ok {
		return at.size, nil
	}
	r.archive.mu.Lock()
	defer r.archive.mu.Unlock()
	if size, ok := r.archive.sizes[d]; ok {
		return size, nil
	}
	return 0, r.absent("blob " + d.String())
}

// Blob opens a blob, which is verified while it is read.
func (r *Repository) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return r.blob(ctx, d, 0, true)
}

// BlobFrom opens a blob at an offset, for a reader that verifies it.
func (r *Repository) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	return r.blob(ctx, d, offset, false)
}

func (r *Repository) blob(ctx context.Context, d digest.Digest, offset int64, verified bool) (
	io.ReadCloser, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	at, ok := r.archive.blobs[d]
	if !ok {
		return nil, 0, r.absentBlob(d)
	}
	if image.CheckDigest(d) != nil {
		return nil, 0, fmt.Errorf("blob %s: it is not a digest", d)
	}
	if offset < 0 || offset > at.size {
		return nil, 0, fmt.Errorf("blob %s has %d bytes and no byte %d", d, at.size, offset)
	}
	reading := &reading{ctx: ctx, span: at, digest: d, done: offset}
	if verified {
		reading.hash = d.Algorithm().Hash()
	}
	return reading, at.size, nil
}

// absentBlob is the error of a blob that is in a chunk on another medium, or in none.
func (r *Repository) absentBlob(d digest.Digest) error {
	for _, p := range r.archive.parts {
		if n, ok := p.missing[d]; ok {
			return hint.New(fmt.Errorf("blob %s is in %s, which is not here: %w", d, chunkName(n), fs.ErrNotExist),
				"import again with the medium that has it: what has arrived is kept")
		}
	}
	return r.absent("blob " + d.String())
}

// absentImage is the error of an image, with the reason if the archive has it.
func (r *Repository) absentImage(separator, ref string) error {
	name := r.name + separator + ref
	if why := r.archive.failed(name); why != "" {
		newest := r.archive.parts[len(r.archive.parts)-1]
		return hint.New(fmt.Errorf("%s is without image %s, which failed when it was made: %s: %w", newest.describe(), name, why, fs.ErrNotExist),
			"mend that on the connected side, and make the archive again")
	}
	return r.absent("image " + name)
}

// absent is the error of what is not in the archive.
func (r *Repository) absent(what string) error {
	newest := r.archive.parts[len(r.archive.parts)-1]
	builds := ""
	if b := newest.builds(); b != "" {
		builds = ": it builds on " + b
	}
	err := fmt.Errorf("%s is not in %s%s: %w", what, newest.describe(), builds, fs.ErrNotExist)
	if newest.v1() > 0 {
		return hint.New(err, "mirror from the archives before it first; where that was done and images were deleted since, again with --skip-metadata-check, from the first on: appliance mirror --v1 --from DIR --skip-metadata-check docker://HOST:PORT")
	}
	return hint.New(err,
		"import the archives before it first, or make one that has it: appliance inventory > FILE here, and appliance mirror --have FILE on the connected side")
}

// builds describes the content that an archive leaves out.
func (p *part) builds() string {
	switch {
	case p.contents == nil || p.contents.BuildsOn == nil:
		return ""
	case p.contents.BuildsOn.Inventory != "":
		return "what an inventory of " + p.contents.BuildsOn.Created.Format("2006-01-02 15:04") + " lists"
	}
	return fmt.Sprintf("the archive before it, number %d", p.contents.BuildsOn.Sequence)
}

func (p *part) describe() string {
	if p.header == nil {
		return p.id
	}
	return fmt.Sprintf("archive number %d", p.header.Sequence)
}

// reading reads a blob. With a hash, the last bytes come only when the whole has the digest.
type reading struct {
	ctx context.Context // of all reads
	span
	digest digest.Digest
	hash   hash.Hash // nil: the reader verifies
	done   int64
	err    error
}

func (r *reading) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.reader.ReadAt(p[:min(int64(len(p)), r.size-r.done)], r.offset+r.done)
	if err != nil && r.done+int64(n) < r.size {
		r.err = fmt.Errorf("read %s: blob %s: %w", r.path, r.digest, err)
		return 0, r.err
	}
	if r.hash != nil {
		r.hash.Write(p[:n])
	}
	r.done += int64(n)
	if r.done < r.size {
		return n, nil
	}
	if r.hash != nil && digest.NewDigest(r.digest.Algorithm(), r.hash) != r.digest {
		r.err = hint.New(r.damaged("blob %s has other content", r.digest),
			"copy the file again from where it was written")
		return 0, r.err
	}
	r.err = io.EOF
	return n, nil
}

// Close ends the reading.
func (r *reading) Close() error {
	r.err = fs.ErrClosed
	return nil
}

// List returns the names of what is in a directory of working-dir.
func (a *Archive) List(dir string) ([]string, error) {
	names, above := map[string]bool{}, path.Clean(dir)+"/"
	if above == "./" {
		above = ""
	}
	for name := range a.documents {
		if below, ok := strings.CutPrefix(name, above); ok {
			first, _, _ := strings.Cut(below, "/")
			names[first] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// Read returns a document of working-dir, or an error with fs.ErrNotExist.
func (a *Archive) Read(name string) ([]byte, error) {
	at, ok := a.documents[path.Clean(name)]
	if !ok {
		return nil, fmt.Errorf("the archive has no document %s: %w", name, fs.ErrNotExist)
	}
	if at.made != nil {
		return at.made, nil
	}
	data, err := at.read(maxDocument)
	if err == nil && at.digest != "" && digest.FromBytes(data) != at.digest {
		err = at.damaged("document %s has other content", name)
	}
	return data, err
}
