package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// Names in an archive. oc-mirror imports an entry by a part of its name, working-dir or
// docker/registry/v2, and ignores the others, ours among them.
const (
	blobsDir        = "docker/registry/v2/blobs/"
	repositoriesDir = "docker/registry/v2/repositories/"
	workingDir      = "working-dir/"

	chunkEntry    = "appliance-chunk.json"   // the first entry of each chunk
	contentsEntry = "appliance-archive.json" // in the last chunk
	unusedEntry   = "appliance-unused"       // the space of a blob that did not come
)

// format is the version of our entries.
const format = 1

// block is the unit of a tar file, and trailer the length of its end.
const (
	block   = 512
	trailer = 2 * block
)

// chunkName is the name of a chunk's file, and partialName its name while it is written, which
// oc-mirror's pattern does not match: that is not anchored.
func chunkName(number int) string   { return fmt.Sprintf("mirror_%06d.tar", number) }
func partialName(number int) string { return fmt.Sprintf(".mirror_%06d.partial", number) }

// chunkPattern is what the names of chunks end with. One more word before it is fine, as for
// oc-mirror.
var chunkPattern = regexp.MustCompile(`mirror_([0-9]{6})\.tar$`)

// chunkHeader is the content of chunkEntry. It has the same length in each chunk, so that it is
// written first and completed last.
type chunkHeader struct {
	Format   int    `json:"format"`
	Archive  string `json:"archive"` // a random identifier
	Number   int    `json:"number"`  // of the chunk, from 1
	Chunks   int    `json:"chunks"`  // of the archive
	Sequence int    `json:"sequence"`
	Previous string `json:"previous,omitempty"` // the archive that this one builds on
}

// Base is what an archive builds on: content that it leaves out.
type Base struct {
	Archive   string    `json:"archive,omitempty"`   // the archive before it, if that is known
	Sequence  int       `json:"sequence,omitempty"`  // of that archive
	History   string    `json:"history,omitempty"`   // a file of working-dir/.history
	Inventory string    `json:"inventory,omitempty"` // the checksum of a destination's inventory
	Created   time.Time `json:"created,omitzero"`    // when the inventory was made
}

// contents is the content of contentsEntry.
type contents struct {
	Format   int       `json:"format"`
	Archive  string    `json:"archive"`
	Sequence int       `json:"sequence"`
	Chunks   int       `json:"chunks"`
	Created  time.Time `json:"created"`
	Version  string    `json:"version"` // of the program
	BuildsOn *Base     `json:"buildsOn,omitempty"`
	Images   []Image   `json:"images"`
	Failures []Failure `json:"failures"`
	LeftOut  int       `json:"leftOut"` // blobs that the base has
	// Others are the tags that its image set did not ask for, as repository:tag: of the archive before.
	Others  []string `json:"others,omitempty"`
	Entries []entry  `json:"entries"`
}

// Image is one image of an archive.
type Image struct {
	Type       string        `json:"type"`
	Origin     string        `json:"origin"`
	Reference  string        `json:"reference"` // the one that it is pulled by
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
}

// Failure is an image that is not in an archive although it was planned.
type Failure struct {
	Type     string   `json:"type,omitempty"`
	Origin   string   `json:"origin"`
	Error    string   `json:"error"`
	Catalogs []string `json:"catalogs,omitempty"` // that are without it, as the image set names them
}

// entry is one file of an archive. The name of a blob follows from its digest.
type entry struct {
	Name   string        `json:"name,omitempty"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	Chunk  int           `json:"chunk"`
	// Of a manifest, its media type, and what it is a signature or another attachment of.
	Type    string        `json:"type,omitempty"`
	Subject digest.Digest `json:"subject,omitempty"`
}

// file returns the name of the entry in the tar.
func (e entry) file() string {
	if e.Name == "" {
		return blobName(e.Digest)
	}
	return e.Name
}

// blobName returns the name of a blob's entry.
func blobName(d digest.Digest) string {
	return blobsDir + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
}

// parseBlobName is the reverse of blobName.
func parseBlobName(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, blobsDir)
	if !ok {
		return "", false
	}
	algorithm, rest, _ := strings.Cut(rest, "/")
	d := digest.Digest(algorithm + ":" + path.Base(path.Dir(rest)))
	if image.CheckDigest(d) != nil || blobName(d) != name {
		return "", false
	}
	return d, true
}

// link returns the name and the content of a file that says that a repository has a digest.
func link(repository, of string, d digest.Digest) (name string, data []byte) {
	return repositoriesDir + repository + "/" + of + "/" + d.Algorithm().String() + "/" + d.Encoded() + "/link", []byte(d)
}

// parseRevision is the reverse of link, for those of manifests.
func parseRevision(name string) (repository string, d digest.Digest, ok bool) {
	rest, ok := strings.CutPrefix(name, repositoriesDir)
	if !ok {
		return "", "", false
	}
	repository, rest, ok = strings.Cut(rest, "/_manifests/revisions/")
	d = digest.Digest(strings.Replace(strings.TrimSuffix(rest, "/link"), "/", ":", 1))
	return repository, d, ok && image.CheckRepository(repository) == nil && image.CheckDigest(d) == nil
}

// tagLink returns the name of the file that has the digest of a tag.
func tagLink(repository, tag string) string {
	return repositoriesDir + repository + "/_manifests/tags/" + tag + "/current/link"
}

// parseTagLink is the reverse of tagLink.
func parseTagLink(name string) (repository, tag string, ok bool) {
	rest, ok := strings.CutPrefix(name, repositoriesDir)
	if !ok {
		return "", "", false
	}
	rest, ok = strings.CutSuffix(rest, "/current/link")
	if !ok {
		return "", "", false
	}
	repository, tag, ok = strings.Cut(rest, "/_manifests/tags/")
	if !ok || image.CheckRepository(repository) != nil || image.CheckTag(tag) != nil {
		return "", "", false
	}
	return repository, tag, true
}

// padded returns a size in whole blocks.
func padded(size int64) int64 { return (size + block - 1) / block * block }

// header returns the bytes before the content of an entry.
func header(name string, size int64, at time.Time) ([]byte, error) {
	return renderHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: at})
}

// unusedHeader is the header of an entry without a meaning. It has one block whatever the size.
func unusedHeader(size int64, at time.Time) ([]byte, error) {
	return renderHeader(&tar.Header{Typeflag: tar.TypeReg, Name: unusedEntry, Size: size,
		Mode: 0o644, ModTime: at, Format: tar.FormatGNU})
}

func renderHeader(h *tar.Header) ([]byte, error) {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, fmt.Errorf("write entry %s: %w", h.Name, err)
	}
	return b.Bytes(), nil
}
