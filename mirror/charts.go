package mirror

import (
	"context"
	"errors"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Charts are how Helm charts are read and rendered.
type Charts struct {
	// Fetch returns the client for documents of a host[:port].
	Fetch func(host string) (fetch.Client, error)
	// Keychain has the logins of chart repositories; nil reads anonymously.
	Keychain authn.Keychain
	// Render renders a chart.
	Render func(context.Context, helm.Chart) (helm.Rendered, error)
}

func (e *engine) charts() *helm.Collector {
	return &helm.Collector{
		Config: e.o.Config, Files: files{e.workspace, e.o.Documents}, Offline: e.o.Documents != nil,
		Repository: e.repository,
		Fetch:      e.o.Charts.Fetch, Keychain: e.o.Charts.Keychain, Render: e.o.Charts.Render,
		Open: func(ref imageset.Reference) (helm.Registry, error) {
			source, err := e.o.Open(ref)
			if err != nil {
				return nil, err
			}
			return registry{source}, nil
		},
	}
}

// registry is a source that may list its tags.
type registry struct{ Source }

// Tags lists the tags of a source that has them. An archive need not: from it charts are read by
// their files.
func (r registry) Tags(ctx context.Context) ([]string, error) {
	if lister, ok := r.Source.(interface {
		Tags(context.Context) ([]string, error)
	}); ok {
		return lister.Tags(ctx)
	}
	return nil, errors.New("the tags of this source cannot be listed")
}
