package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	registrymiddleware "github.com/distribution/distribution/v3/registry/middleware/registry"
	repositorymiddleware "github.com/distribution/distribution/v3/registry/middleware/repository"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	appName  = "appliance" // of our middleware and our driver, in distribution's registries
	maxPage  = 10000       // entries in one answer of a catalog or a list of tags
	storeKey = "store"     // in the options of the middleware

	privateMediaTypePrefix = "application/vnd.mirror-appliance.pushed."
)

// newApp returns distribution's App over the store.
func newApp(ctx context.Context, s *store.Store, secret []byte) (app *handlers.App, err error) {
	if err := register(); err != nil {
		return nil, fmt.Errorf("extend distribution: %w", err)
	}
	defer func() { // NewApp reports a configuration that it does not like in this way only
		if p := recover(); p != nil {
			err = fmt.Errorf("start distribution: %v", p)
		}
	}()
	return handlers.NewApp(ctx, appConfig(s, secret)), nil
}

// appConfig is what the App is told. Health checks and proxy mode stay off: they use the driver.
func appConfig(s *store.Store, secret []byte) *configuration.Configuration {
	ours := []configuration.Middleware{{Name: appName, Options: configuration.Parameters{storeKey: s}}}
	c := &configuration.Configuration{
		Storage: configuration.Storage{
			appName:  configuration.Parameters{},
			"delete": configuration.Parameters{"enabled": true},
			// The App's own collection of uploads works on its driver; ours is in package gc.
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
		// Both: the first gives the Namespace. The second puts the repository back after the App has
		// wrapped it into a listener, which parses and hashes every manifest for notifications.
		Middleware: map[string][]configuration.Middleware{"registry": ours, "repository": ours},
		Catalog:    configuration.Catalog{MaxEntries: maxPage}, // 0 would mean pages of nothing
		Tags:       configuration.Tags{MaxTags: maxPage},
	}
	c.HTTP.Secret = string(secret) // signs the state of uploads
	c.HTTP.RelativeURLs = true     // a Location works behind any host name and proxy
	c.Validation.Disabled = true   // of manifests, in the storage that is not used
	return c
}

// register is called by every New and acts once: distribution keeps what extends it in global maps.
// That is also why the store goes through the options and not into a closure.
var register = sync.OnceValue(func() error {
	// The App logs every request to logrus's global logger, and offers no other. We have an access log
	// of our own, and errors are logged where they are answered. Nothing else in this program uses logrus.
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.PanicLevel)

	factory.Register(appName, nullFactory{})
	err := registrymiddleware.Register(appName, func(_ context.Context, _ distribution.Namespace, _ storagedriver.StorageDriver, options map[string]any) (distribution.Namespace, error) {
		s, err := storeOf(options)
		return &namespace{store: s, scan: maxPage}, err
	})
	err = errors.Join(err, repositorymiddleware.Register(appName, func(_ context.Context, r distribution.Repository, options map[string]any) (distribution.Repository, error) {
		s, err := storeOf(options)
		return &repository{store: s, name: r.Named()}, err
	}))
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		err = errors.Join(err, distribution.RegisterManifestSchema(privateMediaTypePrefix+string(algorithm), receive(algorithm)))
	}
	return err
})

func storeOf(options map[string]any) (*store.Store, error) {
	s, ok := options[storeKey].(*store.Store)
	if !ok {
		return nil, fmt.Errorf("middleware %s has no store among its options", appName)
	}
	return s, nil
}

// privateMediaType is what the front handler tells the App that a manifest is, so that the App has it
// read by receive, and not by its own parsers: those know four media types and sha256.
func privateMediaType(d digest.Digest) string {
	if d == "" { // by tag
		return privateMediaTypePrefix + string(digest.SHA256)
	}
	return privateMediaTypePrefix + string(d.Algorithm())
}

// receive takes a manifest as it came. The App compares the digest with the one in the path; what
// the manifest says is the store's to check.
func receive(algorithm digest.Algorithm) distribution.UnmarshalFunc {
	return func(body []byte) (distribution.Manifest, ocispec.Descriptor, error) {
		return manifest{body: body}, ocispec.Descriptor{Digest: algorithm.FromBytes(body), Size: int64(len(body))}, nil
	}
}

// getPage answers a catalog or a list of tags. Of more than a page one is given, with a Link to the next: the
// App would refuse it for one of the two, and a number that is larger than any for both.
func (a *API) getPage(w http.ResponseWriter, r *http.Request, t target) error {
	query := r.URL.Query()
	if asked := query.Get("n"); asked != "" {
		n, ok := parseAtMost(asked, maxPage)
		if !ok {
			return errNumber(asked)
		}
		if n == 0 && t.kind == kindTags { // which the App answers without a look at the repository
			if _, _, err := a.store.Tags(r.Context(), t.repo, "", 1); err != nil {
				return aboutRepo.explain(fmt.Errorf("list tags: %w", err))
			}
		}
		query.Set("n", strconv.FormatInt(n, 10))
		u := *r.URL
		u.RawQuery = query.Encode()
		r = r.WithContext(r.Context())
		r.URL = &u
	}
	return a.viaApp(w, r, t)
}
