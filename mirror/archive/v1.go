package archive

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// Names in an archive of oc-mirror v1. A manifest is a file with its digest as name, and a tag a
// symbolic link to that.
const (
	blobsDirV1        = "blobs/"
	repositoriesDirV1 = "v2/"
	metadataV1        = "publish/.metadata.json"
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

// metadata is what is read of the metadata of version 1.
type metadata struct {
	PastMirror struct {
		Sequence     int           `json:"sequence"`
		Associations []association `json:"associations"`
	} `json:"pastMirror"`
	PastAssociations []association `json:"pastAssociations"`
}

// association is the digest that an image had at its source.
type association struct {
	Name string        `json:"name"`
	ID   digest.Digest `json:"id"`
}

// visitV1 notes an entry of version 1. What has no meaning here, such as its cache of catalogs, is
// passed over.
func (p *part) visitV1(name string, at span) error {
	if name == metadataV1 {
		return p.readMetadata(at)
	}
	if rest, ok := strings.CutPrefix(name, blobsDirV1); ok {
		if d := digest.Digest(rest); image.CheckDigest(d) == nil {
			p.blobs[d] = at
		}
		return nil
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
	var m metadata
	if err := json.Unmarshal(data, &m); err != nil {
		return at.damaged("%s: %w", metadataV1, err)
	}
	if m.PastMirror.Sequence != at.sequence {
		return at.damaged("%s says that it is of sequence %d", metadataV1, m.PastMirror.Sequence)
	}
	for _, list := range [][]association{m.PastAssociations, m.PastMirror.Associations} {
		for _, a := range list {
			if image.CheckDigest(a.ID) == nil {
				p.origins[a.Name] = a.ID
			}
		}
	}
	return nil
}

// V1 returns the metadata of the newest archive of version 1, and the sequences of all; none for others.
func (a *Archive) V1() (metadata []byte, sequences []int) {
	for _, p := range a.parts {
		if n := p.v1(); n > 0 {
			metadata, sequences = p.metadata, append(sequences, n)
		}
	}
	return metadata, sequences
}
