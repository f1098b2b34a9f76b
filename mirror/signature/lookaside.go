package signature

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
)

// Lookaside is where the OpenPGP signatures of images are, beside their registries, see
// containers-registries.d(5).
type Lookaside struct {
	Get       fetch.Client
	byDefault place
	scopes    map[string]place
}

// place is a rule of a file. sigstore is the older name of lookaside.
type place struct {
	Lookaside string
	Sigstore  string
	Attached  *bool `json:"use-sigstore-attachments"`
}

func (p place) address() string {
	if p.Lookaside != "" {
		return p.Lookaside
	}
	return p.Sigstore
}

// ReadLookaside reads the files of a directory, none if there is no such directory.
func ReadLookaside(dir string) (*Lookaside, error) {
	l := &Lookaside{scopes: map[string]place{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		raw, err := regular.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var rules struct {
			Default *place           `json:"default-docker"`
			Docker  map[string]place `json:"docker"`
		}
		if err := yaml.Unmarshal(raw, &rules); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if rules.Default != nil {
			l.byDefault = *rules.Default
		}
		maps.Copy(l.scopes, rules.Docker)
	}
	return l, nil
}

// rule returns the rule of the narrowest scope of an image that says something, or the default.
func (l *Lookaside) rule(i Image, says func(place) bool) place {
	for _, scope := range scopes(i) {
		if found, ok := l.scopes[scope]; ok && scope != "" && says(found) {
			return found
		}
	}
	return l.byDefault
}

// Attachments reports whether sigstore signatures of an image count that are attached to it. They do
// unless a rule says that they do not: clusters have a rule that they do, and hosts have none.
func (l *Lookaside) Attachments(i Image) bool {
	attached := l.rule(i, func(p place) bool { return p.Attached != nil }).Attached
	return attached == nil || *attached
}

// Signatures returns the OpenPGP signatures of an image, none where no address is known for it.
func (l *Lookaside) Signatures(ctx context.Context, i Image) ([][]byte, error) {
	base := l.rule(i, func(p place) bool { return p.address() != "" }).address()
	if base == "" {
		return nil, nil
	}
	_, path, _ := strings.Cut(i.Repository, "/")
	var all [][]byte
	for n := 1; n <= maxSignatures; n++ {
		at := fmt.Sprintf("%s/%s@%s=%s/signature-%d", strings.TrimSuffix(base, "/"), path,
			i.Manifest.Algorithm(), i.Manifest.Encoded(), n)
		raw, err := l.get(ctx, at)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("get the signature %s: %w", plain.Address(at), err)
		}
		all = append(all, raw)
	}
	return all, nil
}

// get reads a signature. One that does not exist is an error with fs.ErrNotExist.
func (l *Lookaside) get(ctx context.Context, at string) ([]byte, error) {
	if u, err := url.Parse(at); err == nil && u.Scheme == "file" {
		return regular.ReadFile(u.Path)
	}
	raw, err := l.Get.Get(ctx, at, "*/*", maxSignature)
	var answer *fetch.StatusError
	if errors.As(err, &answer) && answer.Status == http.StatusNotFound {
		return nil, fs.ErrNotExist
	}
	return raw, err
}
