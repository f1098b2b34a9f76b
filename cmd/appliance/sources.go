package main

import (
	"context"
	"log/slog"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/location"
	"github.com/mirror-appliance/appliance/mirror/ocilayout"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// sources are the registries that a command reads.
type sources struct {
	*location.Locations
	kinds []*upstream.Registries
}

func (s *sources) close() {
	for _, registries := range s.kinds {
		registries.Close()
	}
}

// open returns the source of an image: a registry, or an OCI layout on disk.
func (s *sources) open(ref imageset.Reference) (mirror.Source, error) {
	if ref.IsLayout() {
		return ocilayout.Open(ref.Path)
	}
	return s.Open(ref.Registry(), ref.Repository())
}

// openSources returns the registries that are read with keys, where registries.conf says. It sends
// no request.
func (o *mirrorOptions) openSources(ctx context.Context, keys authn.Keychain, log *slog.Logger) (*sources, error) {
	type kind struct{ insecure, elsewhere bool }
	s, by := &sources{}, map[kind]*upstream.Registries{}
	for _, k := range []kind{{}, {insecure: true}, {elsewhere: true}, {insecure: true, elsewhere: true}} {
		logins := keys
		if k.elsewhere {
			logins = o.source.elsewhere(o.authFile)
		}
		by[k] = upstream.NewRegistries(o.reading(ctx, k.insecure, logins, log))
		s.kinds = append(s.kinds, by[k])
	}
	var err error
	s.Locations, err = location.Read(o.registriesConf, func(p location.Place) (location.Source, error) {
		return by[kind{p.Insecure, p.Elsewhere}].Repository(p.Registry, p.Repository)
	}, log)
	return s, err
}

// reading returns how a source registry is read. insecure: registries.conf says so.
func (o *mirrorOptions) reading(ctx context.Context, insecure bool, keys authn.Keychain,
	log *slog.Logger) func(string) (upstream.Options, error) {
	insecure = insecure || !o.srcVerify
	return func(registry string) (upstream.Options, error) {
		files, err := upstream.TrustFiles(o.srcCertDir, registry)
		if err != nil {
			return upstream.Options{}, err
		}
		plain := false
		if insecure {
			if plain, err = upstream.AnswersPlain(ctx, registry); err != nil {
				return upstream.Options{}, err
			}
		}
		return upstream.Options{
			Registry: registry, SkipVerify: insecure, PlainHTTP: plain,
			Trust: files, Keychain: keys, UserAgent: "appliance/" + version, Retries: o.retryTimes,
			Busy: o.busy, Log: log,
		}, nil
	}
}
