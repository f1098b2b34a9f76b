package sample

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Handler serves the content as a read-only registry, with the update graph, the graph data and the
// chart repository. Failing and tests wrap it to make it fail or slow.
func (c *Content) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/", c.serveRegistry)
	mux.HandleFunc("GET "+GraphPath, c.serveGraph)
	for path, f := range c.files {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			serveBytes(w, r, f.contentType, f.data)
		})
	}
	return mux
}

func (c *Content) serveRegistry(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry only serves")
		return
	}
	if r.URL.Path == "/v2/" {
		serveBytes(w, r, "application/json", []byte("{}"))
		return
	}
	name, kind, ref, ok := parsePath(r.URL.Path)
	repo, held := c.repositories[name]
	switch {
	case !ok:
		writeError(w, http.StatusNotFound, "UNSUPPORTED", "no such endpoint")
	case !held:
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "no repository "+name)
	case kind == "manifests":
		c.serveManifest(w, r, name, ref)
	case kind == "blobs":
		repo.serveBlob(w, r, ref)
	case kind == "referrers":
		repo.serveReferrers(w, r, ref)
	default:
		repo.serveTags(w, r, name)
	}
}

// parsePath splits /v2/<name>/<kind>/<ref>, where name may have slashes.
func parsePath(path string) (name, kind, ref string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/v2/"), "/")
	if len(parts) < 3 {
		return "", "", "", false
	}
	name = strings.Join(parts[:len(parts)-2], "/")
	kind, ref = parts[len(parts)-2], parts[len(parts)-1]
	ok = slices.Contains([]string{"manifests", "blobs", "referrers"}, kind) || kind == "tags" && ref == "list"
	return name, kind, ref, ok
}

func (c *Content) serveManifest(w http.ResponseWriter, r *http.Request, name, ref string) {
	m, ok := c.Manifest(name, ref)
	if !ok {
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no manifest "+ref+" in "+name)
		return
	}
	w.Header().Set("Docker-Content-Digest", m.Digest.String())
	serveBytes(w, r, m.MediaType, m.Body)
}

func (repo *repository) serveBlob(w http.ResponseWriter, r *http.Request, ref string) {
	data, ok := repo.blobs[digest.Digest(ref)]
	if !ok {
		writeError(w, http.StatusNotFound, "BLOB_UNKNOWN", "no blob "+ref)
		return
	}
	w.Header().Set("Docker-Content-Digest", ref)
	serveBytes(w, r, "application/octet-stream", data)
}

func (repo *repository) serveReferrers(w http.ResponseWriter, r *http.Request, subject string) {
	want := r.URL.Query().Get("artifactType")
	if want != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	found := []ocispec.Descriptor{}
	for _, d := range slices.Sorted(maps.Keys(repo.manifests)) {
		m := repo.manifests[d]
		var about ocispec.Manifest
		if err := json.Unmarshal(m.Body, &about); err != nil || about.Subject == nil ||
			about.Subject.Digest.String() != subject {
			continue
		}
		if want == "" || want == about.ArtifactType {
			found = append(found, ocispec.Descriptor{
				MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body)),
				ArtifactType: about.ArtifactType, Annotations: about.Annotations,
			})
		}
	}
	writeJSON(w, http.StatusOK, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: found,
	})
}

func (repo *repository) serveTags(w http.ResponseWriter, r *http.Request, name string) {
	tags, query := slices.Sorted(maps.Keys(repo.tags)), r.URL.Query()
	if last := query.Get("last"); last != "" {
		tags = slices.DeleteFunc(tags, func(t string) bool { return t <= last })
	}
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n > 0 && n < len(tags) {
		tags = tags[:n]
		next := url.URL{Path: r.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}}.Encode()}
		w.Header().Set("Link", fmt.Sprintf("<%s>; rel=\"next\"", &next))
	}
	writeJSON(w, http.StatusOK, "application/json", map[string]any{"name": name, "tags": tags})
}

func (c *Content) serveGraph(w http.ResponseWriter, r *http.Request) {
	channel, arch := r.URL.Query().Get("channel"), r.URL.Query().Get("arch")
	if arch == "" {
		arch = "amd64"
	}
	switch {
	case !r.URL.Query().Has("channel"):
		writeGraphError(w, "missing_params", "mandatory client parameters missing: channel")
	case !regexp.MustCompile(`^[0-9a-z\-\.]+$`).MatchString(channel):
		writeGraphError(w, "invalid_params", fmt.Sprintf(`invalid client parameters: channel '%s' does not match regex '^[0-9a-z\-\.]+$'`, channel))
	case !regexp.MustCompile(`^[0-9a-z]+$`).MatchString(arch):
		writeGraphError(w, "invalid_params", fmt.Sprintf(`invalid client parameters: arch '%s' does not match regex '^[0-9a-z]+$'`, arch))
	default:
		writeJSON(w, http.StatusOK, "application/json", c.Graph(channel, arch))
	}
}

// serveBytes answers GET and HEAD, ranges included.
func serveBytes(w http.ResponseWriter, r *http.Request, contentType string, data []byte) {
	w.Header().Set("Content-Type", contentType)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func writeGraphError(w http.ResponseWriter, kind, value string) {
	writeJSON(w, http.StatusBadRequest, "application/json", map[string]string{"kind": kind, "value": value})
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, "application/json", map[string]any{
		"errors": []map[string]string{{"code": code, "message": message}},
	})
}

// writeJSON ignores the error of a client that went away.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
