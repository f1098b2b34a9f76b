// Package cluster makes the files by which an OpenShift cluster is installed from an appliance and
// goes on using it: install-config.yaml, agent-config.yaml, mirror sets, catalogs, registries.conf
// and the scripts between them, for one version of OpenShift.
//
// Use [Choose] for the release and [Render] for the files: facts in, files out, no path and no
// network. Package cluster/directory writes them. What a version does not understand is not
// printed; version.go has which version understands what.
//
// Refused: namespace-scoped sources in install-config.yaml. The installer compares the repository
// of the release image for equality, and falls back to the internet with a warning if none is
// equal.
package cluster

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// Facts are what the files are made of.
type Facts struct {
	// Registries are the appliance and, in the order in which they are asked, others with the same content.
	Registries []Registry
	Version    Version
	Release    Release
	// Upstreams are those that the first appliance pulls through.
	Upstreams []Upstream
	// Resources are the cluster resources that the first appliance serves.
	Resources []resources.File
	// InstallConfig is a file of the user's that gets the keys about the mirror; nil: it is made.
	InstallConfig []byte
	// NeverContactSource keeps nodes from asking a source when no mirror has an image.
	NeverContactSource bool
	// ZeroTouch adds the files of zero-touch provisioning.
	ZeroTouch bool
}

// Registry is a mirror as nodes reach it.
type Registry struct {
	Address string // host[:port]
	CA      []byte // PEM; nil: nodes trust its certificate as they are
	Auth    string // of its entry in a pull secret
}

// Upstream is a registry that an appliance pulls through.
type Upstream struct {
	Prefix string // path of repository names at the appliance
	URL    string // http(s)://host[:port][/path]
	// HeldOnly reports that nothing is fetched, and what the appliance has is served.
	HeldOnly bool
}

// File is a file of the directory.
type File struct {
	Name       string // with slashes
	Data       []byte
	Secret     bool // for its owner alone
	Executable bool
}

// Result is a directory, and what its reader should know.
type Result struct {
	Files []File
	// Warnings are about what an installation lacks.
	Warnings []string
}

// Render returns the files for facts.
func Render(f Facts) (*Result, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	m, err := f.mirrors()
	if err != nil {
		return nil, err
	}
	r := &renderer{Facts: f, mirrors: m}
	if err := r.give(); err != nil {
		return nil, err
	}
	for _, part := range []func() error{
		r.installConfig, r.agentConfig, r.forInstaller, r.forHosts, r.zeroTouch, r.dayTwo, r.updates, r.scripts,
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(r.files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return &Result{Files: r.files, Warnings: r.warnings}, nil
}

// renderer collects the files.
type renderer struct {
	Facts
	mirrors *mirrors
	theirs  theirs

	// What nodes and oc get: of the registries, and of the user's install-config.yaml.
	secret  string // pull secret, one line
	bundle  []byte // CAs
	sources []source

	files    []File
	warnings []string
}

// give sets what nodes and oc get.
func (r *renderer) give() (err error) {
	if r.InstallConfig != nil {
		if r.theirs, err = readTheirs(r.InstallConfig); err != nil {
			return fmt.Errorf("complete %s: %w", installConfigFile, err)
		}
	}
	r.bundle = certificates([]byte(r.theirs.keys.Bundle), r.registryCAs())
	r.sources = r.installSources()
	r.secret, err = r.theirs.secret.with(r.Registries)
	if r.InstallConfig != nil {
		r.warnOfTheirs()
	}
	return err
}

func (r *renderer) add(name string, data []byte) {
	r.files = append(r.files, File{Name: name, Data: data})
}

func (r *renderer) addSecret(name string, data []byte) {
	r.files = append(r.files, File{Name: name, Data: data, Secret: true})
}

func (r *renderer) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// first is the appliance that the files are made for.
func (f Facts) first() Registry { return f.Registries[0] }

func (f Facts) check() error {
	if len(f.Registries) == 0 {
		return errors.New("no registry to make the files for")
	}
	for _, r := range f.Registries {
		if err := checkCA(r.CA); err != nil {
			return hint.New(fmt.Errorf("the CA of %s: %w", r.Address, err),
				"name a file with its certificate in PEM form (-----BEGIN CERTIFICATE-----)")
		}
	}
	return f.Version.check()
}

// checkCA returns an error unless text is certificates in PEM form and nothing secret.
func checkCA(text []byte) error {
	if text == nil {
		return nil
	}
	found := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("it has a %s in it, and goes to every node", strings.ToLower(block.Type))
		}
		found++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d in it: %w", found, err) // openshift-install refuses it too
		}
	}
	switch begun := bytes.Count(text, []byte("-----BEGIN CERTIFICATE-----")); {
	case found == 0:
		return errors.New("no certificate in PEM form in it")
	case found < begun:
		return fmt.Errorf("of %d certificates in it %d cannot be read", begun, begun-found)
	}
	return nil
}

// certificates returns the certificates of texts in PEM form, each once and without text between
// them.
func certificates(texts ...[]byte) []byte {
	var all bytes.Buffer
	for _, text := range texts {
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			one := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
			if !bytes.Contains(all.Bytes(), one) {
				all.Write(one)
			}
		}
	}
	return all.Bytes()
}

// registryCAs returns the CAs of all registries; empty if none has one.
func (f Facts) registryCAs() []byte {
	var all [][]byte
	for _, r := range f.Registries {
		all = append(all, r.CA)
	}
	return certificates(all...)
}
