// Package imageset reads ImageSetConfiguration files, the ones that oc-mirror v2 reads, and those of
// version 1, which it says in the words of version 2.
//
// Use Load, or Parse on bytes. Reading is strict, as oc-mirror's is: an unknown key, a key given
// twice or a value of the wrong type is an error. Unlike oc-mirror's, every error names the file
// and the line, and all are reported together. A Config keeps the line of each of its keys
// (Config.At), for the message of a collector that cannot do what a key asks for.
//
// Refused: sigs.k8s.io/yaml, which turns YAML into JSON first and loses the lines, and decoding
// into structs with KnownFields, which gives the line of an unknown key, but not the line of a key
// whose value turns out to be wrong later.
package imageset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// The kinds of documents that this package reads.
const (
	imageSetKind = "ImageSetConfiguration"
	deleteKind   = "DeleteImageSetConfiguration"
)

// maxSize bounds a configuration file. The largest that people write have a few thousand lines.
const maxSize = 16 << 20

// patience is how long a pipe is read, such as that of a shell's <(command).
const patience = 30 * time.Second

// Config is one ImageSetConfiguration.
type Config struct {
	// File is the name of the file in messages, Path where it is, if it was read from a file, Text what it has.
	File, Path  string
	Text        []byte
	APIVersion  string
	ArchiveSize int64 // GiB; 0 means the default, 500
	Mirror      Mirror

	// V1 reports that the file was read as one of version 1, and Storage is where that keeps its
	// history.
	V1      bool
	Storage Storage

	// Warnings name keys that have no effect, or not the expected one.
	Warnings []string

	lines map[string]int
}

// Mirror is the content of the configuration. The names of its fields, and of the structs below,
// are the keys of the file, with a small first letter.
type Mirror struct {
	Platform         Platform
	Operators        []Operator
	AdditionalImages []AdditionalImage
	Helm             Helm
	BlockedImages    []BlockedImage
	Samples          []Sample
}

// Platform selects releases.
type Platform struct {
	Graph             bool
	Channels          []Channel
	Architectures     []string // after Parse: never empty when there are channels; multi with Platforms
	Platforms         []OSArch
	Release           string
	KubeVirtContainer bool
}

// Channel is one channel of an update graph and the versions wanted from it.
type Channel struct {
	Name         string
	MinVersion   string
	MaxVersion   string
	ShortestPath bool
	Full         bool
	Type         ChannelType
	Start        string `yaml:"-"` // the version from which a channel is wanted of which only the head is asked for
}

// IsHead reports whether only the head of the channel is asked for.
func (c Channel) IsHead() bool { return c.MinVersion == "" && c.MaxVersion == "" && !c.Full }

// ChannelType is the product of an update graph.
type ChannelType string

// The channel types. Any other text means OCP, as in oc-mirror.
const (
	OCP ChannelType = "ocp"
	OKD ChannelType = "okd"
)

// OSArch is one operating system and architecture of a sparse manifest list.
type OSArch struct {
	OS           string `yaml:"os" json:"os"`
	Architecture string `json:"architecture"`
}

// String returns the pair as "linux/amd64".
func (p OSArch) String() string { return p.OS + "/" + p.Architecture }

// Operator is one operator catalog, and the packages that are wanted of it.
type Operator struct {
	Catalog                     string
	TargetCatalog               string
	TargetTag                   string
	Full                        bool
	SkipDependencies            bool
	FollowDependencies          bool `yaml:"-"` // of version 1, unless it is to skip them
	TargetCatalogSourceTemplate string
	Platforms                   []OSArch
	Packages                    []Package
	// Starts are the versions, by package and channel, from which a channel is wanted of which only
	// the head is asked for: an earlier run began with them.
	Starts map[string]map[string]string `yaml:"-"`
}

// Package is one package of a catalog.
type Package struct {
	Name           string
	MinVersion     string
	MaxVersion     string
	MinBundle      string `yaml:"-"` // of version 1: the name of the lowest bundle
	DefaultChannel string
	Channels       []PackageChannel
	Bundles        []PackageBundle // of oc-mirror 4.16 and 4.17
}

// PackageBundle is one bundle of a package, by its name.
type PackageBundle struct{ Name string }

// PackageChannel is one channel of a package.
type PackageChannel struct {
	Name       string
	MinVersion string
	MaxVersion string
	MinBundle  string `yaml:"-"` // of version 1: the name of the lowest bundle
}

// AdditionalImage is an image that is listed by itself.
type AdditionalImage struct {
	Name       string
	TargetRepo string
	TargetTag  string
	Platforms  []OSArch
}

// Helm selects charts.
type Helm struct {
	Repositories []HelmRepository
	Local        []Chart
}

// HelmRepository is one chart repository. No charts means all of its index.
type HelmRepository struct {
	Name   string
	URL    string `yaml:"url"`
	Charts []Chart
}

// Chart is one Helm chart.
type Chart struct {
	Name       string
	Version    string
	Path       string
	ImagePaths []string
	Platforms  []OSArch
}

// BlockedImage is a regular expression (RE2, not anchored) of images to leave out.
type BlockedImage struct{ Name string }

// Sample is accepted and has no effect, as in oc-mirror.
type Sample struct{ Name string }

// Load reads and checks a file. All faults of its content are in one error.
func Load(path string) (*Config, error) { return load(path, imageSetKind, version2) }

// LoadV1 is Load for a file of version 1.
func LoadV1(path string) (*Config, error) { return load(path, imageSetKind, version1) }

// LoadEither is Load or LoadV1, as the file's apiVersion says.
func LoadEither(path string) (*Config, error) { return load(path, imageSetKind, either) }

// LoadDelete is Load for a DeleteImageSetConfiguration. What it has below delete is in Mirror.
func LoadDelete(path string) (*Config, error) { return load(path, deleteKind, version2) }

func load(path, kind string, v version) (*Config, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would have it wait for a writer
	if err != nil {
		return nil, unreadable(err)
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(patience)) // where there is one: what is no pipe is read at once
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%s is a pipe, whose writer has not ended after %s", path, patience)
	}
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("%s is larger than any image set configuration", path)
	}
	if err != nil {
		return nil, unreadable(err)
	}
	c, err := parse(filepath.Base(path), data, kind, v)
	if err != nil {
		return nil, err
	}
	c.Path, err = c.path(path)
	return c, err
}

// Parse reads and checks data. name is the file in messages. All faults are in one error.
func Parse(name string, data []byte) (*Config, error) {
	return parse(name, data, imageSetKind, version2)
}

// ParseV1 is Parse for a file of version 1.
func ParseV1(name string, data []byte) (*Config, error) {
	return parse(name, data, imageSetKind, version1)
}

// ParseEither is Parse or ParseV1, as the apiVersion in data says.
func ParseEither(name string, data []byte) (*Config, error) {
	return parse(name, data, imageSetKind, either)
}

func parse(name string, data []byte, kind string, v version) (*Config, error) {
	d := &decoder{Decoder: yamlkeys.Decoder{
		Lenient: true, UnknownHint: unknownHint, Lines: map[string]int{},
	}}
	c := &Config{File: name, Text: data, lines: d.Lines}
	root := d.Document(data, "start with the lines\nkind: "+kind+"\napiVersion: mirror.openshift.io/v2alpha1\n"+section(kind)+": {}")
	if root == nil || !d.header(root, kind) {
		return nil, d.err(name)
	}
	if kind == deleteKind {
		d.asMirror(root)
	}
	if d.isVersion1(root, v) {
		d.decode1(root, c)
	} else {
		d.Mapping(root, "", c.keys(yamlkeys.Fields(&c.Mirror)))
	}
	if len(d.Problems) == 0 {
		d.check(c)
	}
	if err := d.err(name); err != nil {
		return nil, err
	}
	for _, w := range d.Warnings {
		text := w.Text()
		if w.Line > 0 {
			text = fmt.Sprintf("line %d: %s", w.Line, text)
		}
		c.Warnings = append(c.Warnings, text)
	}
	return c, nil
}

// At returns the place of a key, as file:line, for a message; of an absent key the file. path is
// like "mirror.additionalImages[2].name".
func (c *Config) At(path string) string {
	if line := c.lines[path]; line > 0 {
		return fmt.Sprintf("%s:%d", c.File, line)
	}
	return c.File
}

func unreadable(err error) error {
	return hint.New(fmt.Errorf("read image set configuration: %w", err),
		"give the path of an ImageSetConfiguration that this user may read: with --config, or, where the registry reads it, with imageSet: in its config.yaml")
}
