package imageset

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// Pins are the digests that a run found for the names of an image set.
type Pins struct {
	Catalogs map[string]string        // by Operator.UniqueName: the name with the digest
	Images   map[string]digest.Digest // additional images, by their names
}

// Pin returns an ImageSetConfiguration of what the pins name, wherever their tags have moved, and the
// DeleteImageSetConfiguration that deletes it, both as oc-mirror reads them. Destinations stay as they
// are: a catalog's tag becomes its targetTag, as in oc-mirror, and an additional image has a tag and a
// digest, so that cluster resources have both. oc-mirror pins no additional images.
func (c *Config) Pin(p Pins) (imageSet, deletion []byte, err error) {
	m := c.Mirror.withoutLogins()
	for n := range m.Operators {
		m.Operators[n].pin(p.Catalogs)
	}
	for n := range m.AdditionalImages {
		m.AdditionalImages[n].pin(p.Images)
	}
	if len(m.Platform.Platforms) > 0 {
		m.Platform.Architectures = nil // follows from them
	}
	imageSet, err = c.written(imageSetKind, m, c.ArchiveSize)
	if err != nil {
		return nil, nil, err
	}
	m.BlockedImages = nil
	deletion, err = c.written(deleteKind, m, 0)
	return imageSet, deletion, err
}

// withoutLogins returns a copy without the logins that a person may have written, and the names that are refused for them.
func (m Mirror) withoutLogins() Mirror {
	bad := func(name string) bool {
		_, err := ParseReference(name)
		return err != nil && !strings.HasPrefix(name, "dir://")
	}
	m.Operators = slices.DeleteFunc(slices.Clone(m.Operators), func(o Operator) bool { return bad(o.Catalog) })
	m.AdditionalImages = slices.DeleteFunc(slices.Clone(m.AdditionalImages), func(i AdditionalImage) bool { return bad(i.Name) })
	if m.Platform.Release != "" && bad(m.Platform.Release) {
		m.Platform.Release = ""
	}
	m.Helm.Repositories = slices.Clone(m.Helm.Repositories)
	for n := range m.Helm.Repositories {
		m.Helm.Repositories[n].URL = withoutLogin(m.Helm.Repositories[n].URL)
	}
	return m
}

// withoutLogin returns an address without the login in it, and what is behind its "?", which may be one too. One that
// cannot be parsed may have it anywhere before its last @.
func withoutLogin(address string) string {
	u, err := url.Parse(address)
	switch {
	case err == nil && u.User == nil && u.RawQuery == "":
		return address
	case err == nil:
		u.User, u.RawQuery = nil, ""
		return u.String()
	}
	scheme, rest, _ := strings.Cut(address, "://")
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

func (o *Operator) pin(catalogs map[string]string) {
	ref, err := ParseReference(o.Catalog)
	pinned := catalogs[o.UniqueName()]
	if err != nil || ref.Digest != "" || ref.IsLayout() || pinned == "" {
		return
	}
	if o.TargetTag == "" {
		o.TargetTag = ref.Tag
	}
	o.Catalog = pinned
}

func (i *AdditionalImage) pin(images map[string]digest.Digest) {
	ref, err := ParseReference(i.Name)
	if d := images[i.Name]; err == nil && ref.Digest == "" && !ref.IsLayout() && d != "" {
		i.Name += "@" + d.String()
	}
}

// pinnedFrom begins a pinned configuration, with the image set that it is of.
const pinnedFrom = "# with the digests that were mirrored: "

// written returns a document of a kind.
func (c *Config) written(kind string, m Mirror, archiveSize int64) ([]byte, error) {
	head := fmt.Sprintf("%s%s\nkind: %s\napiVersion: %s\n", pinnedFrom, plain.Line(cmp.Or(c.Path, c.Set())), kind, apiVersion2)
	if archiveSize > 0 {
		head += fmt.Sprintf("archiveSize: %d\n", archiveSize)
	}
	out := bytes.NewBufferString(head)
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	err := e.Encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		{Kind: yaml.ScalarNode, Value: section(kind)}, yamlkeys.Write(m)}})
	return out.Bytes(), err
}

var ofPinned = regexp.MustCompile(`^` + pinnedFrom + `(.+)\n`)

// Set returns the name of the image set: File, or of a pinned configuration the file that it was made
// of. Both ask for the same images.
func (c *Config) Set() string {
	if of := ofPinned.FindSubmatch(c.Text); of != nil {
		return filepath.Base(string(of[1]))
	}
	return c.File
}

// IsStream reports whether the configuration was read from standard input, or from another file that has
// no content of its own: the same name stands for another image set next time.
func (c *Config) IsStream() bool {
	if strings.HasPrefix(c.Path, "/dev/") || strings.HasPrefix(c.Path, "/proc/") {
		return true // also where standard input is a regular file
	}
	info, err := os.Stat(c.Path)
	return err == nil && !info.Mode().IsRegular()
}

// path returns where the file of the image set is, that is at a path, "" if that is not known.
func (c *Config) path(at string) (string, error) {
	of := ofPinned.FindSubmatch(c.Text)
	switch {
	case of == nil:
		return filepath.Abs(at)
	case filepath.IsAbs(string(of[1])):
		return string(of[1]), nil
	}
	return "", nil
}
