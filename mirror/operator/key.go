package operator

import (
	"crypto/fips140"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// algorithm is the version of selecting and writing. It changes whenever an equal entry would
// leave other bytes of an equal catalog.
const algorithm = 1

// following is the version of Follow alone: its changes leave the digests of other entries.
const following = 2

// normal is an operator entry in oc-mirror's normal form; the order of the fields counts.
type normal struct {
	Packages         []normalPackage   `json:"packages"`
	Catalog          string            `json:"catalog"`
	Full             bool              `json:"full,omitempty"`
	SkipDependencies bool              `json:"skipDependencies,omitempty"`
	Platforms        []imageset.OSArch `json:"platforms,omitempty"`
}

type normalPackage struct {
	Name           string          `json:"name"`
	Channels       []normalChannel `json:"channels,omitempty"`
	DefaultChannel string          `json:"defaultChannel,omitempty"`
	MinVersion     string          `json:"minVersion,omitempty"`
	MaxVersion     string          `json:"maxVersion,omitempty"`
	MinBundle      string          `json:"minBundle,omitempty"`
	Bundles        []normalBundle  `json:"bundles,omitempty"`
}

type normalBundle struct {
	Name string `json:"name"`
}

type normalChannel struct {
	Name       string `json:"name"`
	MinVersion string `json:"minVersion,omitempty"`
	MaxVersion string `json:"maxVersion,omitempty"`
	MinBundle  string `json:"minBundle,omitempty"`
}

// FilterKeys returns the keys under which oc-mirror keeps what an entry leaves of a catalog with a
// digest: the tag in its cache. The second is that of older archives, to be tried after the first.
func FilterKeys(ask imageset.Operator, catalog digest.Digest) (key, legacy string) {
	return hash(normalForm(ask, pinned(ask.Catalog, catalog))), hash(normalForm(ask, ask.Catalog))
}

// Key returns the key of what Select and Files make of an entry and a catalog with a digest: equal
// keys mean equal bytes. follow is whether Follow is called, lacking the bundles that are as if
// they were not there. What does not change the catalog, such as where it goes, is not in it.
func Key(ask imageset.Operator, catalog digest.Digest, follow bool, lacking []Bundle) digest.Digest {
	ask.SkipDependencies, ask.Platforms = false, nil
	names := make([]string, 0, len(lacking))
	for _, b := range lacking {
		names = append(names, b.Package+"/"+b.Name)
	}
	slices.Sort(names)
	of := []any{algorithm, catalog, json.RawMessage(normalForm(ask, "")), follow, slices.Compact(names)}
	if len(ask.Starts) > 0 {
		of = append(of, ask.Starts)
	}
	if follow {
		of = append(of, following)
	}
	text, _ := json.Marshal(of) // strings and flags: it cannot fail
	return digest.FromBytes(text)
}

// Key returns the key of what Files makes of a selection of a catalog with a digest: equal keys mean
// equal bytes. It is made of what is selected: unlike the function Key it stays the same when a
// bundle comes or goes that the selection does not have.
func (s *Selection) Key(catalog digest.Digest) digest.Digest {
	text, _ := json.Marshal([]any{algorithm, catalog, s.whole, s.Packages, s.Bundles}) // strings: it cannot fail
	return digest.FromBytes(text)
}

func hash(text []byte) string {
	var h [md5.Size]byte
	fips140.WithoutEnforcement(func() { h = md5.Sum(text) }) // oc-mirror's name for a directory, not for security
	return hex.EncodeToString(h[:])
}

func normalForm(ask imageset.Operator, catalog string) []byte {
	n := normal{Catalog: catalog, Full: ask.Full, SkipDependencies: ask.SkipDependencies, Platforms: ask.Platforms}
	for _, p := range ask.Packages {
		to := normalPackage{Name: p.Name, DefaultChannel: p.DefaultChannel, MinVersion: p.MinVersion, MaxVersion: p.MaxVersion, MinBundle: p.MinBundle}
		for _, c := range p.Channels {
			to.Channels = append(to.Channels, normalChannel(c))
		}
		for _, b := range p.Bundles {
			to.Bundles = append(to.Bundles, normalBundle(b))
		}
		n.Packages = append(n.Packages, to)
	}
	text, _ := json.Marshal(n) // strings and flags: it cannot fail
	return text
}

// pinned returns the name of a catalog without tag and transport, with a digest.
func pinned(catalog string, to digest.Digest) string {
	_, name, found := strings.Cut(catalog, "://")
	if !found {
		name = catalog
	}
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name + "@" + to.String()
}
