package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

// Names in an archive of oc-mirror v1. A manifest is a file with its digest as name, and a tag a
// symbolic link to that.
const (
	repositoriesDirV1 = "v2/"
	metadataV1        = "publish/.metadata.json"
	graphDataV1       = "cincinnati/cincinnati-graph-data.tar.gz"
)

// Names of the documents that are in such an archive under names of its own.
const (
	graphData     = "graph-preparation/cincinnati-graph-data.tar.gz"
	chartsDir     = "helm/charts/"
	signaturesDir = "signatures/"
)

// chunkPatternV1 is the form of names of chunks: the sequence, from 1, and the number, from 0.
var chunkPatternV1 = regexp.MustCompile(`^mirror_seq([1-9][0-9]{0,8})_([0-9]{6})\.tar$`)

func chunkNameV1(sequence, number int) string {
	return fmt.Sprintf("mirror_seq%d_%06d.tar", sequence, number-1)
}

// named sets what the name of a chunk says.
func (c *chunkFile) named() {
	base := path.Base(c.path)
	if m := chunkPattern.FindStringSubmatch(base); m != nil {
		c.number, _ = strconv.Atoi(m[1]) // six digits
	}
	if m := chunkPatternV1.FindStringSubmatch(base); m != nil {
		c.sequence, _ = strconv.Atoi(m[1]) // nine digits
		c.number, _ = strconv.Atoi(m[2])
		c.number++
	}
}

// v1 returns the sequence of an archive of version 1, 0 for any other.
func (p *part) v1() int {
	if c := p.any(); c != nil {
		return c.sequence
	}
	return 0
}

// visitV1 notes an entry of version 1. What has no meaning here, such as the cache of its catalogs,
// is passed over.
func (p *part) visitV1(name string, at span) error {
	dir, rest, _ := strings.Cut(name, "/")
	switch {
	case name == metadataV1:
		return p.readMetadata(at)
	case name == graphDataV1:
		p.documents[graphData] = at
	case dir == "blobs":
		if d := digest.Digest(rest); image.CheckDigest(d) == nil {
			p.blobs[d] = at
		}
	case dir == "charts":
		p.documents[chartsDir+rest] = at
	case dir == "release-signatures":
		return p.readSignatures(at)
	case dir == "catalogs":
		return p.visitCatalog(rest, at)
	}
	repository, ref, ok := manifestV1(name)
	if !ok {
		return nil
	}
	if d := digest.Digest(ref); image.CheckDigest(d) == nil {
		p.blobs[d] = at
		return nil
	}
	body, err := at.read(image.MaxManifestBytes) // a tag whose link was followed by the program that copied it
	if err != nil {
		return err
	}
	d := digest.FromBytes(body)
	p.blobs[d] = at
	return p.tagV1(at.chunkFile, repository, ref, d)
}

// linkV1 notes a symbolic link, which names the digest of a tag. Nothing is opened by it.
func (p *part) linkV1(c *chunkFile, name, target string) error {
	repository, tag, ok := manifestV1(name)
	if !ok {
		return fmt.Errorf("%s: entry %s is a link: only tags are links in an archive", c.path, image.Quote(name))
	}
	return p.tagV1(c, repository, tag, digest.Digest(path.Base(target)))
}

func (p *part) tagV1(c *chunkFile, repository, tag string, d digest.Digest) error {
	if err := image.CheckDigest(d); err != nil {
		return c.damaged("tag %s:%s: %w", image.Quote(repository), image.Quote(tag), err)
	}
	if image.CheckRepository(repository) != nil || image.CheckTag(tag) != nil {
		return c.damaged("it has a tag %s of a repository %s", image.Quote(tag), image.Quote(repository))
	}
	p.tags[repository+":"+tag] = d
	return nil
}

// manifestV1 splits the name of a manifest.
func manifestV1(name string) (repository, ref string, ok bool) {
	rest, ok := strings.CutPrefix(name, repositoriesDirV1)
	dir, ref := path.Split(rest)
	repository, below := strings.CutSuffix(dir, "/manifests/")
	return repository, ref, ok && below
}

func (p *part) readMetadata(at span) error {
	data, err := at.read(maxContents)
	if err != nil {
		return err
	}
	p.metadata = data
	var m metadata.Metadata
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&m); err != nil { // see metadata.Parse
		return at.damaged("%s: %w", metadataV1, err)
	}
	if m.PastMirror.Sequence != at.sequence {
		return at.damaged("%s says that it is of sequence %d", metadataV1, m.PastMirror.Sequence)
	}
	for _, list := range [][]metadata.Association{m.PastAssociations, m.PastMirror.Associations} {
		for _, a := range list {
			if image.CheckDigest(a.ID) == nil {
				p.origins[a.Name] = a.ID
			}
		}
	}
	p.images, p.past, p.uid = m.PastMirror.Associations, m.PastAssociations, m.UID
	return nil
}

// readSignatures reads the signatures of a release, which version 1 has as the ConfigMap of a
// cluster. They are documents, as in other archives.
func (p *part) readSignatures(at span) error {
	data, err := at.read(maxDocument)
	if err != nil {
		return err
	}
	var m struct {
		BinaryData map[string][]byte `json:"binaryData"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return at.damaged("a signature of a release: %w", err)
	}
	for key, raw := range m.BinaryData { // such as sha256-739469…-1
		if n := strings.LastIndexByte(key, '-'); n > 0 {
			p.made[signaturesDir+"v1."+key[n+1:]+"-"+key[:n]] = raw
		}
	}
	return nil
}

// V1 is what archives of version 1 publish.
type V1 struct {
	Metadata  []byte // of the newest; nil: no archive is of version 1
	Sequences []int  // of all
	// Images are those that were new when one of the archives was made, and Past all that the
	// newest counts on: of several archives, only those are published.
	Images, Past []metadata.Association
	Catalogs     []CatalogV1 // of the newest, which has all of them
}

// V1 returns what archives of version 1 publish.
func (a *Archive) V1() (v V1) {
	for _, p := range a.parts {
		if n := p.v1(); n > 0 {
			v = V1{p.metadata, append(v.Sequences, n), append(v.Images, p.images...), p.past, p.catalogsV1()}
		}
	}
	if len(v.Sequences) > 1 {
		known := map[[2]string]bool{}
		for _, i := range v.Past {
			known[[2]string{i.Path, i.ID.String()}] = true
		}
		v.Images = slices.DeleteFunc(v.Images, func(i metadata.Association) bool { return !known[[2]string{i.Path, i.ID.String()}] })
	}
	return v
}

// ofOneV1 checks that archives of version 1 are of one image set.
func ofOneV1(parts []*part) (problems []error) {
	for i, p := range parts[:max(len(parts)-1, 0)] {
		if next := parts[i+1]; p.v1() > 0 && next.v1() > 0 && p.uid != next.uid {
			problems = append(problems, fmt.Errorf("%s is of another image set than %s: they have the uids %s and %s", next.any().path, p.any().path, next.uid, p.uid))
		}
	}
	return problems
}
