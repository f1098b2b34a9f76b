// Package graphdata computes the answers of an update service from release images and graph data, as
// the reference implementation of OpenShift does (openshift/cincinnati): the same nodes, edges,
// conditional edges and metadata for the same content.
//
// Use Read for the files of graph data, ParseMetadata for the file release-metadata of a release
// image, Build for the graph of all of them, and Graph.Answer for one channel and architecture. All
// are functions of their arguments: fetching, caching and serving are the caller's.
//
// Two things differ from the reference on purpose. Answers have an order (nodes by version, edges by
// index, conditional edges by their ends), so that equal content is equal bytes. And a single bad
// file or edge never costs the whole graph: it is left out and is one of the Problems.
package graphdata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Bounds of graph data, in an archive and in an image. The real one has some 4,000 files in its archive, 20 MB
// unpacked.
const (
	MaxArchiveFiles = 50_000
	MaxArchiveBytes = 64 << 20
)

// Bounds of what is read of it, which may be of any client. The real one has some 1,800 files, the
// largest of 60 KB.
const (
	maxFiles = 20_000
	maxFile  = 1 << 20
)

// major is that of the versions of graph data that are understood; minors only add.
const major = 1

// Problem is a part of the content that has no effect, or not the one that was meant.
type Problem struct {
	Where string `json:"where"` // a file of graph data, or a release
	What  string `json:"what"`
}

// Data is what the files of graph data say.
type Data struct {
	Version       string // of its schema
	Problems      []Problem
	channels      []channel
	unconditional []block
	conditional   []block
	raw           []rawMetadata
}

type channel struct {
	name     string
	versions []semver.Version
}

// block is a rule of graph data: it takes updates to a release out of the graph, or adds a risk to them.
type block struct {
	to   semver.Version
	from *regexp.Regexp // matches a version with +architecture anywhere
	risk Risk           // of a conditional one
}

// rawMetadata is metadata for the release images of one version.
type rawMetadata struct {
	version semver.Version
	values  map[string]string
}

// Read reads graph data. It returns an error if a part of it is missing that the reference
// implementation demands, or each channel; single files that have no effect are Problems.
func Read(files Files) (*Data, error) {
	d := &Data{}
	if err := d.readVersion(files); err != nil {
		return nil, err
	}
	if err := d.readRaw(files); err != nil {
		return nil, err
	}
	if err := d.each(files, "channels/", d.readChannel); err != nil {
		return nil, err
	}
	if len(d.channels) == 0 {
		return nil, d.noChannel()
	}
	if err := d.each(files, "blocked-edges/", d.readBlock); err != nil {
		return nil, err
	}
	return d, nil
}

// noChannel returns the error of data without a channel that can be used. The reference answers each request
// with an empty graph then, and clusters forget at once what they were offered.
func (d *Data) noChannel() error {
	for _, p := range d.Problems {
		if strings.HasPrefix(p.Where, "channels/") {
			return fmt.Errorf("no channel in it can be used: %s: %s", p.Where, p.What)
		}
	}
	return errors.New("no channel is in its directory channels/")
}

// Listed returns the versions of a channel for an architecture, in the order of the data, whichever releases there are.
func (d *Data) Listed(channel, arch string) (all []semver.Version) {
	for _, c := range d.channels {
		for _, v := range c.versions {
			if build := strings.Join(v.Build, "."); c.name == channel && (build == "" || build == arch) {
				v.Build = nil
				all = append(all, v)
			}
		}
	}
	return all
}

// Channels returns how many channels there are.
func (d *Data) Channels() int { return len(d.channels) }

func (d *Data) readVersion(files Files) error {
	text, err := read(files, "version")
	if err != nil {
		return err
	}
	d.Version = strings.TrimSpace(string(text))
	v, err := semver.Parse(d.Version)
	switch {
	case err != nil:
		return fmt.Errorf("file version: %q is not a version", d.Version)
	case v.Major != major:
		return fmt.Errorf("file version: this is graph data %s, and what is understood is %d.x", d.Version, major)
	}
	return nil
}

func (d *Data) readRaw(files Files) error {
	const name = "raw/metadata.json"
	text, err := read(files, name)
	if err != nil {
		return err
	}
	var all map[string]map[string]string
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	for version, values := range all {
		v, err := semver.Parse(version)
		if err != nil {
			d.Problems = append(d.Problems, Problem{name, fmt.Sprintf("%q is not a version", version)})
			continue
		}
		d.raw = append(d.raw, rawMetadata{v, values})
	}
	slices.SortFunc(d.raw, func(a, b rawMetadata) int { // with one order, equal content is equal bytes
		return compareVersions(a.version, b.version)
	})
	slices.SortFunc(d.Problems, func(a, b Problem) int { return strings.Compare(a.What, b.What) })
	return nil
}

// ChannelGrammar is the grammar of the names of channels, as the reference has it in its answers. It
// has it for requests alone, and fails later over a name without a hyphen; a cluster rejects an
// answer with an empty one.
const ChannelGrammar = `^[0-9a-z\-\.]+$`

var channelName = regexp.MustCompile(ChannelGrammar)

// ValidChannel reports whether a channel can have this name.
func ValidChannel(name string) bool { return channelName.MatchString(name) }

// CheckChannel returns an error, for a person, if no channel can have this name.
func CheckChannel(name string) error {
	if ValidChannel(name) {
		return nil
	}
	return hint.New(fmt.Errorf("%q is not a channel", name), "name one like stable-4.20; appliance updates show lists them")
}

// extension matches those of the files that are read, as the reference implementation does.
func extension(name string) bool {
	ok, _ := regexp.MatchString("ya+ml", path.Ext(name))
	return ok
}

// each reads the files of a directory, in the order of their names. What cannot be read is a Problem.
func (d *Data) each(files Files, dir string, parse func(text []byte) error) error {
	_, found := files[dir]
	n := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		base, ok := strings.CutPrefix(name, dir)
		found = found || ok
		if !ok || base == "" || strings.Contains(base, "/") || !extension(base) {
			continue
		}
		if n++; n > maxFiles {
			return fmt.Errorf("directory %s has more than %d files", dir, maxFiles)
		}
		text, err := read(files, name)
		if err == nil {
			err = parse(text)
		}
		if part := partly(""); errors.As(err, &part) {
			d.Problems = append(d.Problems, Problem{name, err.Error()})
		} else if err != nil {
			d.Problems = append(d.Problems, Problem{name, "it has no effect: " + err.Error()})
		}
	}
	if !found {
		return fmt.Errorf("directory %s is missing", dir)
	}
	return nil
}

func (d *Data) readChannel(text []byte) error {
	fields, err := readFields(text)
	if err != nil {
		return err
	}
	c := channel{}
	if c.name, err = fields.text("name"); err != nil {
		return err
	}
	if !ValidChannel(c.name) {
		return fmt.Errorf("name %q is not that of a channel, which a cluster could ask for", c.name)
	}
	list, ok := fields["versions"].([]any)
	if !ok {
		return errors.New("versions is not a list")
	}
	for _, one := range list {
		text, _ := one.(string)
		v, err := semver.Parse(text)
		if err != nil {
			return fmt.Errorf("versions has %v, which is not a version; the whole channel %s is left out for it", one, c.name)
		}
		c.versions = append(c.versions, v)
	}
	d.channels = append(d.channels, c)
	return nil
}

// readBlock reads a file of blocked-edges: with nothing but to and from it takes updates out, with
// a risk it makes them conditional.
func (d *Data) readBlock(text []byte) error {
	fields, err := readFields(text)
	if err != nil {
		return err
	}
	var b block
	to, err := fields.text("to")
	if err != nil {
		return err
	}
	if b.to, err = semver.Parse(to); err != nil {
		return fmt.Errorf("to is %q, which is not a version", to)
	}
	from, err := fields.text("from")
	if err != nil {
		return err
	}
	if b.from, err = regexp.Compile(from); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if len(fields) == 2 {
		d.unconditional = append(d.unconditional, b)
		return nil
	}
	if b.risk, err = fields.risk(); err != nil {
		return err
	}
	d.conditional = append(d.conditional, b)
	if why := b.risk.refused(); why != "" {
		return partly("no cluster takes the risk, or is offered the updates that have it: " + why)
	}
	return nil
}

// partly is the error of a file that has an effect, but not the one that was meant.
type partly string

func (p partly) Error() string { return string(p) }

// read returns a file of graph data.
func read(files Files, name string) ([]byte, error) {
	text, ok := files[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("file %s is missing", name)
	case len(text) > maxFile:
		return nil, fmt.Errorf("file %s has %d bytes, more than the %d that are read", name, len(text), maxFile)
	}
	return text, nil
}

// fields are the keys of a YAML mapping. Their types are checked by hand: the reference takes no
// number for a text, and such a file must have no effect here either.
type fields map[string]any

func readFields(text []byte) (fields, error) {
	var f, more fields
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one YAML document")
	}
	return f, nil
}

func (f fields) text(key string) (string, error) {
	value, ok := f[key].(string)
	if !ok {
		return "", fmt.Errorf("%s is not there, or is not a text", key)
	}
	return value, nil
}

func (f fields) risk() (Risk, error) {
	var r Risk
	for key, to := range map[string]*string{"url": &r.URL, "name": &r.Name, "message": &r.Message} {
		value, err := f.text(key)
		if err != nil {
			return r, err
		}
		*to = value
	}
	rules, ok := f["matchingRules"].([]any)
	if !ok {
		return r, errors.New("matchingRules is not there, or is not a list")
	}
	r.Rules = []Rule{}
	for _, one := range rules {
		rule, err := readRule(one)
		if err != nil {
			return r, fmt.Errorf("matchingRules: %w", err)
		}
		r.Rules = append(r.Rules, rule)
	}
	return r, nil
}

// refused returns why a cluster does not take a risk, "" if it does. It is passed on as the reference does.
func (r Risk) refused() string {
	usable := func(rule Rule) bool {
		return rule.Type == "Always" && rule.PromQL.PromQL == "" || rule.Type == "PromQL" && rule.PromQL.PromQL != ""
	}
	u, err := url.Parse(r.URL)
	switch {
	case r.Name == "" || r.Message == "":
		return "name or message is empty"
	case err != nil || !u.IsAbs():
		return fmt.Sprintf("url %q is not that of a page", r.URL)
	case !slices.ContainsFunc(r.Rules, usable):
		return "matchingRules has no rule Always without a query, or PromQL with one"
	}
	return ""
}

func readRule(of any) (Rule, error) {
	f, ok := of.(fields)
	if !ok {
		return Rule{}, errors.New("an entry is not a mapping")
	}
	var r Rule
	var err error
	if _, ok := f["type"]; ok {
		if r.Type, err = f.text("type"); err != nil {
			return r, err
		}
	}
	if f["promql"] == nil {
		return r, nil
	}
	query, ok := f["promql"].(fields)
	if !ok {
		return r, errors.New("promql is not a mapping")
	}
	if _, ok := query["promql"]; ok {
		r.PromQL.PromQL, err = query.text("promql")
	}
	return r, err
}
