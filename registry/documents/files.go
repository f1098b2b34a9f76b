package documents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/medium"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// FilesPath is below which the files of media are.
const FilesPath = "/files/"

// Files serves the files of media, to those who may pull from the repository that has them.
type Files struct {
	Store *store.Store
	// Blobs is the registry API, which serves a blob with ranges and an ETag, its digest.
	Blobs http.Handler
	Log   *slog.Logger
}

// ServeHTTP answers a request for the listing or for a file.
func (s *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	id, _ := auth.IdentityFrom(r.Context())
	if !id.Sees(medium.Repository) {
		if id.Anonymous() {
			w.Header().Set("Www-Authenticate", `Basic realm="appliance"`)
			Denied(w, r, http.StatusUnauthorized)
			return
		}
		Denied(w, r, http.StatusForbidden)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, FilesPath)
	var err error
	if name == "" {
		err = s.list(w, r)
	} else {
		err = s.file(w, r, name)
	}
	switch {
	case errors.Is(err, store.ErrNotFound) || is[*store.InvalidError](err):
		refuse(w, http.StatusNotFound, "there is no such file", FilesPath+" lists what there is")
	case err != nil:
		s.Log.ErrorContext(r.Context(), "a file could not be served", "path", r.URL.Path, "error", err)
		refuse(w, http.StatusInternalServerError, "the files could not be read", "see the log of the registry")
	}
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// layer returns the content of a file.
func (s *Files) layer(ctx context.Context, name string) (ocispec.Descriptor, error) {
	if err := medium.CheckName(name); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	m, err := s.Store.Manifests.ByTag(ctx, medium.Repository, name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var parsed ocispec.Manifest
	if err := json.Unmarshal(m.Body, &parsed); err != nil || len(parsed.Layers) != 1 {
		return ocispec.Descriptor{}, store.ErrNotFound // another image was pushed there
	}
	return parsed.Layers[0], nil
}

func (s *Files) list(w http.ResponseWriter, r *http.Request) error {
	names, _, err := s.Store.Tags.List(r.Context(), medium.Repository, "", -1)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	all := []document{}
	for _, name := range names {
		layer, err := s.layer(r.Context(), name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		all = append(all, document{Name: name, Size: layer.Size, Digest: layer.Digest})
	}
	if wantsPage(r) {
		return writePage(w, r, "Files", all)
	}
	text, err := json.Marshal(all)
	if err == nil {
		serve(w, r, "application/json", append(text, '\n'))
	}
	return err
}

// file sends the blob of a file, as the registry API does.
func (s *Files) file(w http.ResponseWriter, r *http.Request, name string) error {
	layer, err := s.layer(r.Context(), name)
	if err != nil {
		return err
	}
	blob := r.Clone(r.Context())
	blob.URL = &url.URL{Path: "/v2/" + medium.Repository + "/blobs/" + layer.Digest.String()}
	blob.RequestURI = blob.URL.Path
	w.Header().Set("Cache-Control", "private, no-cache") // the name may have other content tomorrow
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	s.Blobs.ServeHTTP(w, blob)
	return nil
}
