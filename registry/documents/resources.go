package documents

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/resources"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// ResourcesPath is below which the cluster resources are.
const ResourcesPath = "/mirror/cluster-resources/"

// originsAtOnce is how many origins are read at once.
const originsAtOnce = 1000

// Resources serves the cluster resources, to each user of what that user may pull. A request
// without an identity comes from the control socket and gets all.
type Resources struct {
	Tags *store.Tags
	// Registry is how clusters reach the registry: host[:port].
	Registry, Version string
	Log               *slog.Logger
}

// ServeHTTP answers a request for the listing or for a file.
func (s *Resources) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, ResourcesPath)
	if !reads(w, r) {
		return
	}
	files, err := s.Files(r.Context())
	if err == nil && name == "" {
		err = list(w, r, files)
	}
	switch {
	case err != nil:
		s.Log.ErrorContext(r.Context(), "cluster resources could not be served", "error", err)
		refuse(w, http.StatusInternalServerError, "the cluster resources could not be read", "see the log of the registry")
		return
	case name == "":
		return
	}
	for _, f := range files {
		if f.Name == name {
			serve(w, r, mediaType(name), f.Data)
			return
		}
	}
	refuse(w, http.StatusNotFound, "there is no such file", ResourcesPath+" lists what there is")
}

// list sends the listing. Its JSON has the content of the files too, as they were at one time.
func list(w http.ResponseWriter, r *http.Request, files []resources.File) error {
	all, documents := []api.Resource{}, []document{}
	for _, f := range files {
		d := document{Name: f.Name, Size: int64(len(f.Data)), Digest: digest.FromBytes(f.Data)}
		documents = append(documents, d)
		all = append(all, api.Resource{Name: d.Name, Size: d.Size, Digest: d.Digest, Data: string(f.Data)})
	}
	if wantsPage(r) {
		return writePage(w, r, "Cluster resources", documents)
	}
	text, err := json.Marshal(all)
	if err == nil {
		serve(w, r, "application/json", append(text, '\n'))
	}
	return err
}

func mediaType(name string) string {
	if strings.HasSuffix(name, ".json") {
		return "application/json"
	}
	return "application/yaml"
}

// Files renders the resources of what the user may pull.
func (s *Resources) Files(ctx context.Context) ([]resources.File, error) {
	id, known := auth.IdentityFrom(ctx)
	all, err := Origins(ctx, s.Tags)
	if err != nil {
		return nil, err
	}
	return mirror.Resources(s.Registry, s.Version, all, func(repository string) bool { return !known || id.Sees(repository) })
}

// Origins returns what the runs recorded of the tags.
func Origins(ctx context.Context, tags *store.Tags) ([]mirror.Origin, error) {
	var all []mirror.Origin
	for last := (store.Origin{}); ; {
		some, err := tags.Origins(ctx, last, originsAtOnce)
		if err != nil {
			return nil, err
		}
		for _, o := range some {
			all = append(all, mirror.Origin{Repository: o.Repository, Tag: o.Tag, About: o.About, Recorded: o.Recorded})
		}
		if len(some) < originsAtOnce {
			return all, nil
		}
		last = some[len(some)-1]
	}
}
