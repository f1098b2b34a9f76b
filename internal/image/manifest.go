package image

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifestBytes is the size of the largest manifest, as the distribution specification suggests.
const MaxManifestBytes = 4 << 20

// maxReferences is how many configs, layers and children the largest manifest has. Each is a row of
// the store, and all are written in one transaction. Images have at most 127 layers, indexes one
// child for each platform.
const maxReferences = 4096

// Docker's media types; image-spec has those of OCI.
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerSchema1  = "application/vnd.docker.distribution.manifest.v1" // and with +json, +prettyjws
)

// IsIndex reports whether a media type is that of an index.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeDockerList || mediaType == ocispec.MediaTypeImageIndex
}

// Kind is what a manifest uses a reference for. The store's database has these words.
type Kind string

// The kinds of references. Layer includes the blobs of the withdrawn artifact manifest.
const (
	Config Kind = "config"
	Layer  Kind = "layer"
	Child  Kind = "child"
)

// Reference is a config, a layer or a child of a manifest.
type Reference struct {
	Kind      Kind
	Digest    digest.Digest
	Size      int64
	MediaType string
	// Foreign layers need not exist where the manifest does: their URLs or their media type say
	// that their licence may forbid copying. URLs reports whether a layer names another place. A
	// foreign layer that names none exists in registries only, so a mirror copies it.
	Foreign, URLs bool
	// Platform is the operating system and architecture of a child, as "linux/amd64"; "" if the
	// index does not say.
	Platform string
}

// Manifest is what the body of a manifest or an index says. All but Declared is a function of the
// body alone, so that what one repository declares does not change a manifest of another.
type Manifest struct {
	MediaType    string // as the body names it, "" if it names none
	Declared     string // as the manifest was sent, where the body names none; else ""
	ArtifactType string
	Subject      digest.Digest
	Annotations  map[string]string
	References   []Reference
}

// AnnotationsText returns the annotations as JSON, in the order of their names, "" for none.
func (m Manifest) AnnotationsText() (string, error) {
	if len(m.Annotations) == 0 {
		return "", nil
	}
	text, err := json.Marshal(m.Annotations)
	return string(text), err
}

// Required returns the blobs that must exist before the manifest does, each once.
func (m Manifest) Required() []Reference {
	return m.blobs(func(r Reference) bool { return !r.Foreign })
}

// Copied returns the blobs that a mirror copies with the manifest, each once: those without URLs.
func (m Manifest) Copied() []Reference {
	return m.blobs(func(r Reference) bool { return !r.URLs })
}

func (m Manifest) blobs(wanted func(Reference) bool) []Reference {
	var blobs []Reference
	seen := map[digest.Digest]bool{}
	for _, r := range m.References {
		if r.Kind != Child && wanted(r) && !seen[r.Digest] {
			seen[r.Digest] = true
			blobs = append(blobs, r)
		}
	}
	return blobs
}

// Digests returns the digests of all references.
func (m Manifest) Digests() []digest.Digest {
	ds := make([]digest.Digest, len(m.References))
	for i, r := range m.References {
		ds[i] = r.Digest
	}
	return ds
}

func invalidManifest(format string, args ...any) error {
	return &InvalidError{What: "manifest", Reason: fmt.Sprintf(format, args...)}
}

// ParseNew parses a manifest that does not exist here yet, and also refuses what clients would read
// in different ways. What exists already is read by Parse, so that it can still be examined.
func ParseNew(mediaType string, body []byte) (Manifest, error) {
	fields, err := readFields(body)
	if err != nil {
		return Manifest{}, err
	}
	if err := checkNames(fields); err != nil {
		return Manifest{}, err
	}
	p, err := parseFields(mediaType, fields)
	if err == nil && len(p.References) > maxReferences {
		return Manifest{}, invalidManifest("it has %d descriptors (config, layers and manifests), more than the %d that are accepted", len(p.References), maxReferences)
	}
	if err == nil {
		err = p.checkSizes()
	}
	return p, err
}

// checkNames rejects fields whose names differ from known ones in case only: clients in Go, which
// ignore case, would take the last of them, and others the exact one.
func checkNames(fields map[string]json.RawMessage) error {
	for name := range fields {
		for _, known := range []string{"schemaVersion", "mediaType", "artifactType", "config",
			"layers", "blobs", "manifests", "subject", "annotations"} {
			if name != known && strings.EqualFold(name, known) {
				return invalidManifest("field %s is to be %s", Quote(name), known)
			}
		}
	}
	return nil
}

// checkSizes rejects a manifest that gives one digest several sizes: clients would disagree.
func (m Manifest) checkSizes() error {
	stated := make(map[digest.Digest]int64, len(m.References))
	for _, r := range m.References {
		if size, twice := stated[r.Digest]; twice && size != r.Size {
			return invalidManifest("it says that %s has %d bytes, and that it has %d", r.Digest, size, r.Size)
		}
		stated[r.Digest] = r.Size
	}
	return nil
}

// Parse reads a manifest by its shape: whichever of config, layers, blobs (of the withdrawn
// artifact manifest), manifests and subject it has, so that images of new media types are
// complete too. mediaType is the one it was sent with; it may be "" if the body names one. The
// error is an *InvalidError.
func Parse(mediaType string, body []byte) (Manifest, error) {
	fields, err := readFields(body)
	if err != nil {
		return Manifest{}, err
	}
	return parseFields(mediaType, fields)
}

// readFields reads a manifest into a map: names of struct fields would match in any case.
func readFields(body []byte) (map[string]json.RawMessage, error) {
	if len(body) > MaxManifestBytes {
		return nil, invalidManifest("it has %d bytes, more than %d", len(body), MaxManifestBytes)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, invalidManifest("it is not a JSON object: %v", err)
	}
	if fields == nil {
		return nil, invalidManifest("it is null")
	}
	return fields, nil
}

func parseFields(mediaType string, fields map[string]json.RawMessage) (Manifest, error) {
	p := Manifest{}
	var err error
	if p.MediaType, p.Declared, err = manifestMediaType(mediaType, fields); err != nil {
		return Manifest{}, err
	}
	if err := checkShape(p.EffectiveType(), fields); err != nil {
		return Manifest{}, err
	}
	if err := p.readRefs(fields); err != nil {
		return Manifest{}, err
	}
	return p, p.readMeaning(fields)
}

// EffectiveType returns the media type that the manifest is served with.
func (m Manifest) EffectiveType() string {
	if m.MediaType != "" {
		return m.MediaType
	}
	return m.Declared
}

// manifestMediaType returns the media type that the body names, or, if it names none, the one that
// was declared outside. The body may repeat what was declared, but not contradict it.
func manifestMediaType(outside string, fields map[string]json.RawMessage) (named, declared string, err error) {
	var inside string
	if err := field(fields, "mediaType", &inside); err != nil {
		return "", "", err
	}
	if outside == "" {
		outside = inside
	}
	if outside == "" {
		return "", "", invalidManifest("neither the request nor the body has a media type")
	}
	plain, _, err := mime.ParseMediaType(outside) // cuts off a charset
	switch {
	case err != nil:
		return "", "", invalidManifest("media type %s: %v", Quote(outside), err)
	case inside == "":
		return "", plain, nil
	case !strings.EqualFold(inside, plain):
		return "", "", invalidManifest("it was sent as %s and says of itself %s", Quote(plain), Quote(inside))
	}
	return plain, "", nil
}

// checkShape refuses what cannot be kept, and what two clients could read as two different things.
func checkShape(mediaType string, fields map[string]json.RawMessage) error {
	var version int
	if err := field(fields, "schemaVersion", &version); err != nil {
		return err
	}
	_, old := fields["fsLayers"]
	if version == 1 || old {
		return invalidManifest("Docker's schema 1 is not kept, since its digest is not that of its bytes: push it as schema 2 or OCI")
	}
	_, config := fields["config"]
	_, layers := fields["layers"]
	_, children := fields["manifests"]
	if children && (config || layers) {
		return invalidManifest("it has the fields of an image and of an index")
	}
	switch mediaType {
	case MediaTypeDockerManifest, ocispec.MediaTypeImageManifest:
		if !present(fields, "config") || !layers {
			return invalidManifest("an image has config and layers")
		}
	case MediaTypeDockerList, ocispec.MediaTypeImageIndex:
		if !children {
			return invalidManifest("an index has manifests")
		}
	}
	return nil
}

func (m *Manifest) readRefs(fields map[string]json.RawMessage) error {
	var config *ocispec.Descriptor
	if err := field(fields, "config", &config); err != nil {
		return err
	}
	if config != nil {
		if err := m.add(Config, "config", *config); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		name string
		kind Kind
	}{{"layers", Layer}, {"blobs", Layer}, {"manifests", Child}} {
		var ds []ocispec.Descriptor
		if err := field(fields, list.name, &ds); err != nil {
			return err
		}
		for i, d := range ds {
			if err := m.add(list.kind, fmt.Sprintf("%s[%d]", list.name, i), d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Manifest) add(kind Kind, where string, d ocispec.Descriptor) error {
	if err := checkDescriptor(where, d); err != nil {
		return err
	}
	urls := kind == Layer && len(d.URLs) > 0
	foreign := urls || kind == Layer && (strings.Contains(d.MediaType, ".nondistributable.") ||
		strings.Contains(d.MediaType, ".foreign."))
	r := Reference{Kind: kind, Digest: d.Digest, Size: d.Size, MediaType: d.MediaType, Foreign: foreign, URLs: urls}
	if kind == Child && d.Platform != nil {
		r.Platform = d.Platform.OS + "/" + d.Platform.Architecture
	}
	m.References = append(m.References, r)
	return nil
}

func checkDescriptor(where string, d ocispec.Descriptor) error {
	switch {
	case d.Digest == "":
		return invalidManifest("%s has no digest", where)
	case d.Size < 0:
		return invalidManifest("%s has size %d", where, d.Size)
	case d.MediaType == "":
		return invalidManifest("%s has no mediaType", where)
	}
	if err := CheckDigest(d.Digest); err != nil {
		return invalidManifest("%s: %v", where, err)
	}
	return nil
}

// readMeaning reads what lists of referrers say about a manifest.
func (m *Manifest) readMeaning(fields map[string]json.RawMessage) error {
	var subject *ocispec.Descriptor
	if err := field(fields, "subject", &subject); err != nil {
		return err
	}
	if subject != nil {
		if err := checkDescriptor("subject", *subject); err != nil {
			return err
		}
		m.Subject = subject.Digest
	}
	if err := field(fields, "annotations", &m.Annotations); err != nil {
		return err
	}
	if err := field(fields, "artifactType", &m.ArtifactType); err != nil {
		return err
	}
	if m.ArtifactType == "" {
		for _, r := range m.References {
			if r.Kind == Config {
				m.ArtifactType = r.MediaType
			}
		}
	}
	return nil
}

// field reads one field, if it is there, into target.
func field(fields map[string]json.RawMessage, name string, target any) error {
	raw, ok := fields[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, target); err != nil {
		return invalidManifest("field %s: %v", name, err)
	}
	return nil
}

// DetectMediaType returns the media type that a body names or its fields suggest, or "".
func DetectMediaType(body []byte) string {
	fields, err := readFields(body)
	if err != nil {
		return ""
	}
	var version int
	var named string
	if field(fields, "schemaVersion", &version) != nil || field(fields, "mediaType", &named) != nil {
		return ""
	}
	switch {
	case named != "":
		return named
	case version == 1:
		return MediaTypeDockerSchema1 + "+json"
	case present(fields, "manifests"):
		return ocispec.MediaTypeImageIndex
	case present(fields, "config"):
		return ocispec.MediaTypeImageManifest
	}
	return ""
}

func present(fields map[string]json.RawMessage, name string) bool {
	raw, ok := fields[name]
	return ok && string(raw) != "null"
}
