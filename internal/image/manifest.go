package store

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifestBytes is the size of the largest manifest that is accepted, as the specification suggests.
const MaxManifestBytes = 4 << 20

// MaxDescriptors is how many configs, layers and children the largest manifest that is accepted has. Each is a row, and
// all are written in one transaction. Images have at most 127 layers, indexes one child for each platform.
const MaxDescriptors = 4096

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// refKind is what a manifest uses a descriptor for; the words stand in the database.
type refKind string

const (
	refConfig refKind = "config"
	refLayer  refKind = "layer"
	refChild  refKind = "child"
)

// ref is one thing that a manifest is made of.
type ref struct {
	kind      refKind
	digest    digest.Digest
	size      int64
	mediaType string
	elsewhere bool // a foreign layer: clients fetch it from its urls, so it need not be held
}

// parsed is what the store needs to know about a manifest's body. All but declared is a function of the body alone, so
// that no repository's declaration changes what a manifest of another is made of.
type parsed struct {
	mediaType    string // as the body names it, "" if it names none
	declared     string // as it was put, where the body names none; else ""
	artifactType string
	subject      digest.Digest
	annotations  map[string]string
	refs         []ref
}

// mustBeHeld gives the blobs that must be held before the manifest is, each once.
func (p parsed) mustBeHeld() []ref {
	var need []ref
	seen := map[digest.Digest]bool{}
	for _, r := range p.refs {
		if r.kind != refChild && !r.elsewhere && !seen[r.digest] {
			seen[r.digest] = true
			need = append(need, r)
		}
	}
	return need
}

// digests are those of all that the manifest is made of, held or not.
func (p parsed) digests() []digest.Digest {
	ds := make([]digest.Digest, len(p.refs))
	for i, r := range p.refs {
		ds[i] = r.digest
	}
	return ds
}

func invalidManifest(format string, args ...any) error {
	return &InvalidError{What: "manifest", Why: fmt.Sprintf(format, args...)}
}

// parseNew is parse for a manifest that is not held yet. What clients would read in different ways is refused then, and
// not once it is held: it could not be looked at any more.
func parseNew(mediaType string, body []byte) (parsed, error) {
	fields, err := readFields(body)
	if err != nil {
		return parsed{}, err
	}
	if err := checkNames(fields); err != nil {
		return parsed{}, err
	}
	p, err := parseFields(mediaType, fields)
	if err == nil && len(p.refs) > MaxDescriptors {
		return parsed{}, invalidManifest("it has %d descriptors (config, layers and manifests), more than the %d that are accepted", len(p.refs), MaxDescriptors)
	}
	if err == nil {
		err = p.checkSizes()
	}
	return p, err
}

// checkNames refuses fields whose names differ from those with a meaning in upper and lower case only. Clients in Go, which
// ignore case, would take the last of them, and others the one that is written right.
func checkNames(fields map[string]json.RawMessage) error {
	for name := range fields {
		for _, known := range []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests", "subject", "annotations"} {
			if name != known && strings.EqualFold(name, known) {
				return invalidManifest("field %s is to be %s", quoted(name), known)
			}
		}
	}
	return nil
}

// checkSizes refuses a manifest that says of one content that it has several sizes: none can be right for all clients.
func (p parsed) checkSizes() error {
	stated := make(map[digest.Digest]int64, len(p.refs))
	for _, r := range p.refs {
		if size, twice := stated[r.digest]; twice && size != r.size {
			return invalidManifest("it says that %s has %d bytes, and that it has %d", r.digest, size, r.size)
		}
		stated[r.digest] = r.size
	}
	return nil
}

// parse reads a manifest by its shape: whichever of config, layers, blobs (of the withdrawn artifact
// manifest), manifests and subject it has, so that media types nobody has thought of yet are kept whole.
func parse(mediaType string, body []byte) (parsed, error) {
	fields, err := readFields(body)
	if err != nil {
		return parsed{}, err
	}
	return parseFields(mediaType, fields)
}

// readFields reads the body of a manifest into a map, since names of struct fields would match in any case, and "Layers" is
// not "layers".
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

func parseFields(mediaType string, fields map[string]json.RawMessage) (parsed, error) {
	p := parsed{}
	var err error
	if p.mediaType, p.declared, err = manifestMediaType(mediaType, fields); err != nil {
		return parsed{}, err
	}
	if err := checkShape(p.effectiveType(), fields); err != nil {
		return parsed{}, err
	}
	if err := p.readRefs(fields); err != nil {
		return parsed{}, err
	}
	return p, p.readMeaning(fields)
}

// effectiveType returns the media type that a manifest is served with.
func (p parsed) effectiveType() string {
	if p.mediaType != "" {
		return p.mediaType
	}
	return p.declared
}

// manifestMediaType returns the media type that the body names, or, if it names none, the one that was declared
// outside. The body may repeat what was declared, but not contradict it.
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
		return "", "", invalidManifest("media type %s: %v", quoted(outside), err)
	case inside == "":
		return "", plain, nil
	case !strings.EqualFold(inside, plain):
		return "", "", invalidManifest("it was sent as %s and says of itself %s", quoted(plain), quoted(inside))
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
	case dockerManifest, ocispec.MediaTypeImageManifest:
		if !config || !layers || string(fields["config"]) == "null" {
			return invalidManifest("an image has config and layers")
		}
	case dockerList, ocispec.MediaTypeImageIndex:
		if !children {
			return invalidManifest("an index has manifests")
		}
	}
	return nil
}

func (p *parsed) readRefs(fields map[string]json.RawMessage) error {
	var config *ocispec.Descriptor
	if err := field(fields, "config", &config); err != nil {
		return err
	}
	if config != nil {
		if err := p.add(refConfig, "config", *config); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		name string
		kind refKind
	}{{"layers", refLayer}, {"blobs", refLayer}, {"manifests", refChild}} {
		var ds []ocispec.Descriptor
		if err := field(fields, list.name, &ds); err != nil {
			return err
		}
		for i, d := range ds {
			if err := p.add(list.kind, fmt.Sprintf("%s[%d]", list.name, i), d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *parsed) add(kind refKind, where string, d ocispec.Descriptor) error {
	if err := checkDescriptor(where, d); err != nil {
		return err
	}
	elsewhere := kind == refLayer && (len(d.URLs) > 0 ||
		strings.Contains(d.MediaType, ".nondistributable.") || strings.Contains(d.MediaType, ".foreign."))
	p.refs = append(p.refs, ref{kind: kind, digest: d.Digest, size: d.Size, mediaType: d.MediaType, elsewhere: elsewhere})
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
	if err := checkDigest(d.Digest); err != nil {
		return invalidManifest("%s: %v", where, err)
	}
	return nil
}

// readMeaning reads what lists of referrers say about a manifest.
func (p *parsed) readMeaning(fields map[string]json.RawMessage) error {
	var subject *ocispec.Descriptor
	if err := field(fields, "subject", &subject); err != nil {
		return err
	}
	if subject != nil {
		if err := checkDescriptor("subject", *subject); err != nil {
			return err
		}
		p.subject = subject.Digest
	}
	if err := field(fields, "annotations", &p.annotations); err != nil {
		return err
	}
	if err := field(fields, "artifactType", &p.artifactType); err != nil {
		return err
	}
	if p.artifactType == "" {
		for _, r := range p.refs {
			if r.kind == refConfig {
				p.artifactType = r.mediaType
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
