package registry_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

const resourcesPath = "/mirror/cluster-resources/"

// mirrored runs an image set in the daemon, or by a workspace as the command does.
func (r *running) mirrored(t *testing.T, set config.Sync, inDaemon bool) {
	t.Helper()
	if inDaemon {
		_, err := r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: set.ImageSet}, nil)
		must(t, err)
		return
	}
	o, end, err := mirrorPlain(t.Context(), set, nil)
	must(t, err)
	defer end()
	o.Log, o.Workspace, o.Prefix = nil, set.Workspace, set.Prefix
	o.Registry = "another-name.test:8443" // the name by which the command was told of the registry
	o.Begin = func(ctx context.Context, name string) (mirror.Destination, error) {
		return r.admin.BeginSync(ctx, name)
	}
	_, err = mirror.Run(t.Context(), o)
	must(t, err)
}

// resources returns a file of the cluster resources as a user gets it, "" if there is none.
func (r *running) resources(t *testing.T, user, name string) string {
	t.Helper()
	status, text := r.as(t, user, http.MethodGet, resourcesPath+name)
	if status == http.StatusNotFound {
		return ""
	}
	if status != http.StatusOK {
		t.Fatalf("%s as %s: %d %s", name, user, status, text)
	}
	return text
}

func TestRun_servesClusterResources(t *testing.T) {
	source, dir := newSample(t), t.TempDir()
	sync := config.Sync{ImageSet: filepath.Join(dir, "daemon.yaml"), Workspace: filepath.Join(dir, "d"), Interval: time.Hour, Prefix: "far"}
	command := config.Sync{ImageSet: filepath.Join(dir, "command.yaml"), Workspace: filepath.Join(dir, "c")}
	r := start(t, func(c *config.Config) { c.Sync = []config.Sync{sync} })
	const itms = "itms-oc-mirror.yaml"
	if text := r.resources(t, "pull", ""); text != "[]\n" {
		t.Errorf("an empty registry has %s", text)
	}
	writeSet(t, sync.ImageSet, source, "samples/docker:v1")
	r.mirrored(t, sync, true)
	first := r.resources(t, "pull", itms)
	if !strings.Contains(first, "- "+host+"/far/samples\n") || !strings.Contains(first, "source: "+source+"/samples\n") {
		t.Errorf("after a run of the daemon:\n%s", first)
	}
	writeSet(t, command.ImageSet, source, "samples/oci:v1")
	r.mirrored(t, command, false)
	both := r.resources(t, "pull", itms)
	for _, want := range []string{"- " + host + "/far/samples\n", "- " + host + "/samples\n"} {
		if !strings.Contains(both, want) {
			t.Errorf("after a run of a command %q is not in\n%s", want, both)
		}
	}

	t.Run("the listing has all files", func(t *testing.T) {
		var all []api.Resource
		must(t, json.Unmarshal([]byte(r.resources(t, "pull", "")), &all))
		near, err := r.admin.Resources(t.Context())
		must(t, err)
		for _, list := range [][]api.Resource{all, near} {
			if len(list) != 1 || list[0].Name != itms || list[0].Data != both {
				t.Errorf("it has %+v", list)
			}
		}
		resp := r.ask(t, "pull", resourcesPath, "Accept", "text/html,*/*")
		if policy := resp.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; form-action 'none'; frame-ancestors 'none'") {
			t.Errorf("a page in the console's origin has the policy %q", policy)
		}
		if text := resp.text; !strings.Contains(text, `<a href="./`+itms+`">`) {
			t.Errorf("a browser gets\n%s", text)
		}
	})
	t.Run("an ETag says that nothing is new", func(t *testing.T) {
		tag := r.ask(t, "pull", resourcesPath+itms, "", "").header.Get("Etag")
		if again := r.ask(t, "pull", resourcesPath+itms, "If-None-Match", tag); tag == "" || again.status != http.StatusNotModified {
			t.Errorf("ETag %q: %d", tag, again.status)
		}
		r.mirrored(t, command, false)
		if again := r.ask(t, "pull", resourcesPath+itms, "If-None-Match", tag); again.status != http.StatusNotModified {
			t.Errorf("after a run that brought nothing: %d", again.status)
		}
	})
	t.Run("the login decides", func(t *testing.T) {
		if status, _ := r.get(t, resourcesPath+itms); status != http.StatusUnauthorized {
			t.Errorf("without a login it is answered %d", status)
		}
		_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: "limited", Role: "pull", Password: password, Repositories: []string{"far/*"}})
		must(t, err)
		if text := r.resources(t, "limited", itms); text != first {
			t.Errorf("who may pull a part gets\n%s", text)
		}
		for path, want := range map[string]int{"absent.yaml": http.StatusNotFound, "..%2f": http.StatusNotFound, "": http.StatusOK} {
			if status, _ := r.as(t, "pull", http.MethodGet, resourcesPath+path); status != want {
				t.Errorf("%q is answered %d", path, status)
			}
		}
		if status, _ := r.as(t, "admin", http.MethodPut, resourcesPath+itms); status != http.StatusMethodNotAllowed {
			t.Errorf("a PUT is answered %d", status)
		}
	})
	t.Run("a rollback and a delete take entries out", func(t *testing.T) {
		past, err := r.admin.PastSyncs(t.Context(), api.PastRequest{})
		must(t, err)
		for _, run := range past {
			if run.Tags > 0 && strings.HasSuffix(run.Name, "command.yaml") {
				_, err := r.admin.Rollback(t.Context(), run.ID, api.RollbackRequest{})
				must(t, err)
			}
		}
		if text := r.resources(t, "pull", itms); text != first {
			t.Errorf("after a rollback:\n%s", text)
		}
		r = r.restart(t)
		if text := r.resources(t, "pull", itms); text != first {
			t.Errorf("after a restart:\n%s", text)
		}
		if status, text := r.as(t, "push", http.MethodDelete, "/v2/far/samples/docker/manifests/v1"); status != http.StatusAccepted {
			t.Fatalf("the delete is answered %d %s", status, text)
		}
		if text := r.resources(t, "pull", ""); text != "[]\n" {
			t.Errorf("after a delete: %s", text)
		}
	})
}

type answer struct {
	status int
	header http.Header
	text   string
}

// ask is as, with a header of the request, and the answer's.
func (r *running) ask(t *testing.T, user, path, header, value string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+path, nil)
	must(t, err)
	req.SetBasicAuth(user, password)
	if header != "" {
		req.Header.Set(header, value)
	}
	resp, err := r.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return answer{resp.StatusCode, resp.Header, string(text)}
}
