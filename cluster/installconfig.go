package cluster

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

const installConfigFile = "install-config.yaml"

// The keys of install-config.yaml that are about the mirror.
const (
	keySecret  = "pullSecret"
	keyBundle  = "additionalTrustBundle"
	keyPolicy  = "additionalTrustBundlePolicy"
	keyDigests = "imageDigestSources"
	keyContent = "imageContentSources" // up to 4.13
)

// installConfig makes install-config.yaml, or completes that of the user.
func (r *renderer) installConfig() error {
	if len(r.mirrors.install) == 0 {
		r.warn("%s names no mirror of a release: none was mirrored, and no upstream leads to %s", installConfigFile,
			r.Version.releaseRepositories()[0])
	}
	if len(r.Registries) > 1 {
		r.warn("while the cluster is installed only %s is asked: the installer uses the first mirror of an entry in %s; the mirror sets have both",
			r.first().Address, installConfigFile)
	}
	if r.NeverContactSource && !r.Version.sourcePolicy() {
		r.warn("OpenShift %s has no sourcePolicy in %s (4.21 has): while it is installed, sources are asked for what no mirror has",
			r.Version, installConfigFile)
	}
	if r.InstallConfig != nil {
		text, err := r.complete(r.InstallConfig)
		if err != nil {
			return fmt.Errorf("complete %s: %w", installConfigFile, err)
		}
		r.addSecret(installConfigFile, text)
		return nil
	}
	text, err := r.template("install-config.yaml")
	if err != nil {
		return err
	}
	keys, err := r.keysAboutMirror(r.secret, string(r.bundle), r.installSources(nil))
	if err != nil {
		return err
	}
	r.cluster = "cluster"
	r.addSecret(installConfigFile, append(text, keys...))
	return nil
}

// source is an entry of imageDigestSources or imageContentSources.
type source struct {
	Source  string   `yaml:"source"`
	Mirrors []string `yaml:"mirrors"`
	Policy  string   `yaml:"sourcePolicy,omitempty"`
}

// installSources returns the entries of install-config.yaml: those of the user that are about other
// sources, and ours.
func (r *renderer) installSources(theirs []source) []source {
	all := slices.DeleteFunc(theirs, func(s source) bool {
		return slices.ContainsFunc(r.mirrors.install, func(e entry) bool { return e.source == s.Source })
	})
	for n := range all {
		if !r.Version.sourcePolicy() {
			all[n].Policy = ""
		}
	}
	for _, e := range r.mirrors.install {
		s := source{Source: e.source, Mirrors: e.mirrors}
		if r.NeverContactSource && r.Version.sourcePolicy() {
			s.Policy = neverContact
		}
		all = append(all, s)
	}
	return all
}

const neverContact = "NeverContactSource"

// keysAboutMirror renders the keys about the mirror.
func (r *renderer) keysAboutMirror(secret, bundle string, sources []source) ([]byte, error) {
	var keys yaml.Node
	keys.Kind = yaml.MappingNode
	put := func(key string, value *yaml.Node) {
		keys.Content = append(keys.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
	}
	put(keySecret, &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.SingleQuotedStyle, Value: secret})
	if bundle != "" {
		put(keyBundle, &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.LiteralStyle, Value: bundle})
		put(keyPolicy, &yaml.Node{Kind: yaml.ScalarNode, Value: "Always", LineComment: "the default, Proxyonly, is not enough"})
	}
	if len(sources) > 0 {
		var list yaml.Node
		if err := list.Encode(sources); err != nil {
			return nil, err
		}
		key := keyContent
		if r.Version.digestSources() {
			key = keyDigests
		}
		put(key, &list)
	}
	text, err := marshal(&keys)
	if err != nil || len(r.Registries) == 1 {
		return text, err
	}
	return append([]byte("# Only the first mirror of an entry is used while the cluster is installed.\n"), text...), nil
}

// marshal writes YAML with the indentation that Kubernetes' resources have.
func marshal(v any) ([]byte, error) {
	var text bytes.Buffer
	e := yaml.NewEncoder(&text)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return text.Bytes(), e.Close()
}

// theirConfig has the keys that are read of a user's install-config.yaml.
type theirConfig struct {
	Metadata struct{ Name string }
	Secret   string   `yaml:"pullSecret"`
	Bundle   string   `yaml:"additionalTrustBundle"`
	Digests  []source `yaml:"imageDigestSources"`
	Content  []source `yaml:"imageContentSources"`
}

// complete puts the keys about the mirror into a user's file. The lines of the other keys stay as
// they are.
func (r *renderer) complete(text []byte) ([]byte, error) {
	var d yamlkeys.Decoder
	root := d.Document(text, "leave --install-config out to have one made")
	if len(d.Problems) > 0 {
		p := d.Problems[0]
		return nil, hint.New(fmt.Errorf("line %d: %s", p.Line, p.Text()), p.Hint)
	}
	if root.Kind != yaml.MappingNode || root.Style&yaml.FlowStyle != 0 {
		return nil, hint.New(fmt.Errorf("line %d: it is not a mapping with one key on each line", root.Line),
			"begin with 'apiVersion: v1', or leave --install-config out to have one made")
	}
	var theirs theirConfig
	if err := root.Decode(&theirs); err != nil {
		return nil, fmt.Errorf("not an install-config.yaml: %w", err)
	}
	r.cluster = theirs.Metadata.Name
	secret, err := mergedSecret(theirs.Secret, r.Registries)
	if err != nil {
		return nil, err
	}
	bundle := theirs.Bundle
	for _, one := range splitCertificates(r.bundle) {
		if !strings.Contains(string(certificates([]byte(bundle))), one) {
			if bundle != "" && !strings.HasSuffix(bundle, "\n") {
				bundle += "\n"
			}
			bundle += one
		}
	}
	keys, err := r.keysAboutMirror(secret, bundle, r.installSources(append(theirs.Digests, theirs.Content...)))
	if err != nil {
		return nil, err
	}
	rest := withoutKeys(text, root, keySecret, keyBundle, keyPolicy, keyDigests, keyContent)
	if len(rest) > 0 && !bytes.HasSuffix(rest, []byte("\n")) {
		rest = append(rest, '\n')
	}
	whole := append(rest, keys...)
	return whole, sameElsewhere(root, whole)
}

// withoutKeys returns a text without the lines of some keys of its outermost mapping. Comments and
// blank lines after a key stay, since they are about the next.
func withoutKeys(text []byte, root *yaml.Node, keys ...string) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	var rest []byte
	next := 0
	for n := 0; n < len(root.Content); n += 2 {
		from, to := root.Content[n].Line-1, len(lines)
		if n+2 < len(root.Content) {
			to = root.Content[n+2].Line - 1
		}
		if !slices.Contains(keys, root.Content[n].Value) {
			continue
		}
		for to > from+1 && isAside(lines[to-1]) {
			to--
		}
		rest = append(rest, bytes.Join(lines[next:from], nil)...)
		next = to
	}
	return append(rest, bytes.Join(lines[next:], nil)...)
}

// isAside reports whether a line belongs to no value: it is blank, a comment at its beginning, or
// an end of the document.
func isAside(line []byte) bool {
	return len(bytes.TrimSpace(line)) == 0 || line[0] == '#'
}

// sameElsewhere returns an error if a text differs from a document in more than the keys about the
// mirror.
func sameElsewhere(root *yaml.Node, text []byte) error {
	var before, after map[string]any
	if err := root.Decode(&before); err != nil {
		return err
	}
	err := yaml.Unmarshal(text, &after)
	_, there := after[keySecret] // else a mark of the document's end stands before it
	for _, key := range []string{keySecret, keyBundle, keyPolicy, keyDigests, keyContent} {
		delete(before, key)
		delete(after, key)
	}
	a, errA := json.Marshal(before)
	b, errB := json.Marshal(after)
	if err != nil || errA != nil || errB != nil || !there || !bytes.Equal(a, b) {
		return hint.New(fmt.Errorf("the keys about the mirror cannot be put in without changing others"),
			"write each key of the outermost level on a line of its own, without anchors (&name) in "+
				keySecret+", "+keyBundle+" and "+keyDigests)
	}
	return nil
}

// agentConfig makes agent-config.yaml.
func (r *renderer) agentConfig() error {
	text, err := r.template("agent-config.yaml")
	if err == nil {
		r.add("agent-config.yaml", text)
	}
	return err
}
