package node

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// ReadInstallConfig returns what an install-config.yaml gives to nodes.
func ReadInstallConfig(text []byte) (Facts, error) {
	type entry struct {
		Source  string
		Mirrors []string
		Policy  string `yaml:"sourcePolicy"`
	}
	var config struct {
		Kind    string
		Secret  string  `yaml:"pullSecret"`
		Bundle  string  `yaml:"additionalTrustBundle"`
		Policy  string  `yaml:"additionalTrustBundlePolicy"`
		Digests []entry `yaml:"imageDigestSources"`
		Content []entry `yaml:"imageContentSources"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return Facts{}, errors.New("it is not YAML, or has other kinds of values than an install-config.yaml") // the parser's error may quote the pull secret
	}
	f := Facts{Bundle: []byte(config.Bundle), Policy: config.Policy, InstallConfig: true}
	if config.Secret != "" {
		f.Secret = []byte(config.Secret)
	}
	for _, e := range append(config.Digests, config.Content...) {
		f.Sources = append(f.Sources, cluster.Source{Source: e.Source, Mirrors: e.Mirrors, NeverContact: e.Policy == "NeverContactSource"})
	}
	if f.Secret == nil && len(f.Sources) == 0 {
		return f, hint.New(errors.New("it has neither pullSecret nor imageDigestSources"), "name an install-config.yaml, a directory of appliance cluster-config, or a registries.conf")
	}
	return f, nil
}

// ReadRegistries returns the mirrors of a registries.conf. It has neither certificates nor a login.
func ReadRegistries(file string) (f Facts, err error) {
	none, err := os.MkdirTemp("", "appliance-") // in place of registries.conf.d
	if err != nil {
		return f, err
	}
	defer func() { _ = os.Remove(none) }()
	sysregistriesv2.InvalidateCache()
	all, err := sysregistriesv2.GetRegistries(&types.SystemContext{SystemRegistriesConfPath: file, SystemRegistriesConfDirPath: none})
	if err != nil {
		return f, fmt.Errorf("not a registries.conf: %w", err)
	}
	for _, r := range all {
		s := cluster.Source{Source: r.Prefix, NeverContact: r.Blocked}
		if rest, ok := strings.CutPrefix(s.Source, "*."); ok {
			return f, hint.New(fmt.Errorf("the entry *.%s is about all hosts below a domain", rest), "name the source's registry in an entry of its own")
		}
		for _, m := range r.Mirrors {
			if m.PullFromMirror == sysregistriesv2.MirrorByTagOnly {
				continue // nodes pull releases by digest
			}
			s.Mirrors = append(s.Mirrors, m.Location)
		}
		if len(s.Mirrors) > 0 {
			f.Sources = append(f.Sources, s)
		}
	}
	if len(f.Sources) == 0 {
		err = errors.New("it has no mirror")
	}
	return f, err
}
