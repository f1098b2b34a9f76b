package cluster

import (
	"bytes"
	"fmt"
	"path"
	"slices"

	"go.yaml.in/yaml/v3"
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
		repository := r.Version.releaseRepositories()[0]
		above := path.Dir(repository)
		r.warn("%s names no mirror of a release: none was mirrored, and no upstream leads to %s; mirror one with "+
			"mirror.platform, or have the appliance pull it through: appliance upstream add %s https://%s", installConfigFile,
			repository, path.Base(above), above)
	}
	if len(r.Registries) > 1 {
		r.warn("while the cluster is installed only %s is asked: the installer uses the first mirror of an entry in %s; the mirror sets have all",
			r.first().Address, installConfigFile)
	}
	if r.NeverContactSource && !r.Version.sourcePolicy() {
		r.warn("OpenShift %s has no sourcePolicy in %s (4.21 has): while it is installed, sources are asked for what no mirror has",
			r.Version, installConfigFile)
	}
	if r.InstallConfig != nil {
		text, err := r.complete()
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
	keys, err := r.keysAboutMirror(string(r.bundle))
	if err != nil {
		return err
	}
	r.addSecret(installConfigFile, append(text, keys...))
	return nil
}

// source is an entry of imageDigestSources or imageContentSources.
type source struct {
	Source  string   `yaml:"source"`
	Mirrors []string `yaml:"mirrors"`
	Policy  string   `yaml:"sourcePolicy,omitempty"`
}

// otherSources returns the entries of the user's file that are about other sources than ours.
func (r *renderer) otherSources() []source {
	return slices.DeleteFunc(r.theirs.sources(), func(s source) bool {
		return slices.ContainsFunc(r.mirrors.install, func(e entry) bool { return e.source == s.Source })
	})
}

// installSources returns the entries of install-config.yaml: those of the user that are about other
// sources, and ours.
func (r *renderer) installSources() (all []source) {
	for _, s := range r.otherSources() {
		if !r.Version.sourcePolicy() {
			s.Policy = ""
		}
		all = append(all, s)
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

const (
	neverContact = "NeverContactSource"
	always       = "Always"
)

// keysAboutMirror renders the keys about the mirror.
func (r *renderer) keysAboutMirror(bundle string) ([]byte, error) {
	var keys yaml.Node
	keys.Kind = yaml.MappingNode
	put := func(key string, value *yaml.Node) {
		keys.Content = append(keys.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
	}
	put(keySecret, &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.SingleQuotedStyle, Value: r.secret})
	if bundle != "" {
		put(keyBundle, &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.LiteralStyle, Value: bundle})
		put(keyPolicy, &yaml.Node{Kind: yaml.ScalarNode, Value: always, LineComment: "the default, Proxyonly, is not enough"})
	}
	if len(r.sources) > 0 {
		var list yaml.Node
		if err := list.Encode(r.sources); err != nil {
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

// agentConfig makes agent-config.yaml.
func (r *renderer) agentConfig() error {
	text, err := r.template("agent-config.yaml")
	if err == nil {
		r.add("agent-config.yaml", text)
	}
	return err
}
