package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/backup"
)

// updated is a registry with releases and graph data.
type updated struct {
	*running
	t      *testing.T
	source *sample.Content
	host   string // of the source
	dir    string
}

func newUpdated(t *testing.T, change ...func(*config.Config)) *updated {
	server := httptest.NewUnstartedServer(nil)
	host := server.Listener.Addr().String()
	content, err := sample.New(host)
	must(t, err)
	server.Config.Handler = content.Handler()
	server.Start()
	t.Cleanup(server.Close)
	return &updated{running: start(t, change...), t: t, source: content, host: host, dir: t.TempDir()}
}

// mirror mirrors what a text under mirror: asks for.
func (u *updated) mirror(text string) {
	u.t.Helper()
	file := filepath.Join(u.dir, "set.yaml")
	must(u.t, os.WriteFile(file, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n"+text), 0o600))
	loaded, err := imageset.Load(file)
	must(u.t, err)
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true}, nil
	})
	defer registries.Close()
	keys, err := signature.ParseKeys(u.source.ReleaseKey())
	must(u.t, err)
	_, err = mirror.Run(u.t.Context(), mirror.Options{
		Config: loaded, Registry: host, Workspace: filepath.Join(u.dir, "ws"),
		Open: func(ref imageset.Reference) (mirror.Source, error) {
			return registries.Repository(u.host, ref.Repository()) // registry.access.redhat.com too
		},
		Begin: func(ctx context.Context, name string) (mirror.Destination, error) {
			return u.admin.BeginSync(ctx, name)
		},
		Graph: updategraph.Client{URL: "http://" + u.host + sample.GraphPath, HTTP: http.DefaultClient},
		Signatures: mirror.Signatures{Releases: &signature.Client{URL: "http://" + u.host + sample.SignaturesPath, Keys: keys,
			Get: fetch.Client{HTTP: http.DefaultClient}}},
	})
	must(u.t, err)
}

// channels mirrors whole channels with graph data.
func (u *updated) channels(names ...string) {
	u.t.Helper()
	text := "  platform:\n    graph: true\n    architectures: [amd64, arm64, multi]\n    channels:\n"
	for _, name := range names {
		text += "    - {name: " + name + ", full: true}\n"
	}
	u.mirror(text)
}

const graphPath = "/api/upgrades_info/v1/graph"

// graph asks for a graph as a cluster does.
func (u *updated) graph(channel, arch string) (status int, g sample.Graph, text string) {
	u.t.Helper()
	status, text = u.get(u.t, graphPath+"?arch="+arch+"&channel="+channel+"&id=00000000-0000-0000-0000-000000000000&version=4.18.1")
	if status == http.StatusOK {
		must(u.t, json.Unmarshal([]byte(text), &g))
	}
	return status, g, text
}

// becomes waits until the versions of a channel for amd64 are the ones that are given.
func (u *updated) becomes(channel, want string) {
	u.t.Helper()
	got := ""
	for range 400 {
		status, g, text := u.graph(channel, "amd64")
		got = fmt.Sprintf("%d %s", status, text)
		if status == http.StatusOK {
			var all []string
			for _, n := range g.Nodes {
				all = append(all, n.Version)
			}
			if got = strings.Join(all, " "); got == want {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	u.t.Fatalf("channel %s has %q, not %q", channel, got, want)
}

func plainly(t *testing.T, g sample.Graph) string {
	t.Helper()
	for _, n := range g.Nodes {
		delete(n.Metadata, "io.openshift.upgrades.graph.previous.remove_regex") // how the risks came about
	}
	text, err := json.Marshal(g)
	must(t, err)
	return string(text)
}

// TestUpdates_sameAsUpstream mirrors releases with graph data, and compares each answer with that of the
// update service that they were mirrored by.
func TestUpdates_sameAsUpstream(t *testing.T) {
	u := newUpdated(t)
	if status, _, text := u.graph("stable-4.18", "amd64"); status != http.StatusInternalServerError || !strings.Contains(text, `"failed_upstream_fetch"`) {
		t.Errorf("an empty registry answers %d %s", status, text)
	}
	u.channels("eus-4.18", "candidate-4.18")
	u.becomes("candidate-4.18", "4.18.1 4.18.2 4.18.3 4.18.4")
	conditional := 0
	for _, channel := range []string{"candidate-4.18", "eus-4.16", "eus-4.18", "fast-4.18", "stable-4.17", "stable-4.18", "stable-4.1"} {
		for _, arch := range []string{"amd64", "arm64", "multi", "s390x"} {
			want := u.source.Graph(channel, arch)
			_, got, _ := u.graph(channel, arch)
			if plainly(t, got) != plainly(t, want) {
				t.Errorf("%s, %s:\ngot  %s\nwant %s", channel, arch, plainly(t, got), plainly(t, want))
			}
			conditional += len(got.ConditionalEdges)
		}
	}
	if conditional == 0 {
		t.Error("there is no conditional edge in any")
	}

	t.Run("graph data", func(t *testing.T) {
		data := u.ask(t, "", "/api/upgrades_info/graph-data", "", "")
		layer, err := updategraph.DataLayer([]byte(data.text))
		must(t, err)
		resp, err := http.Get("http://" + u.host + sample.GraphDataPath)
		must(t, err)
		defer resp.Body.Close()
		theirs, err := io.ReadAll(resp.Body)
		must(t, err)
		if want, err := updategraph.DataLayer(theirs); err != nil || !bytes.Equal(layer, want) {
			t.Errorf("it is another one than upstream's: %v", err)
		}
	})
	t.Run("signatures", func(t *testing.T) {
		keys, err := signature.ParseKeys(u.source.ReleaseKey())
		must(t, err)
		for _, at := range []string{"/signatures/openshift/release/", "/api/upgrades_info/signatures/"} {
			c := &signature.Client{URL: "https://" + host + at, Keys: keys, Get: fetch.Client{HTTP: u.http, Sleep: func(context.Context, time.Duration) error { return errors.New("asked again") }}}
			r, _ := u.source.Release("4.18.2", "multi")
			if _, err := c.Fetch(t.Context(), r.Digest); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			for path, want := range map[string]int{
				"sha256=" + r.Digest.Encoded() + "/signature-1":                       http.StatusOK,
				"sha=" + r.Digest.Encoded() + "/signature-1":                          http.StatusOK,
				"sha256=" + r.Digest.Encoded() + "/signature-2":                       http.StatusNotFound,
				"sha256=" + strings.Repeat("0", 64) + "/signature-1":                  http.StatusNotFound,
				"sha256=" + r.Digest.Encoded() + "/signature-0":                       http.StatusBadRequest,
				"sha256=" + r.Digest.Encoded() + "/signature-1/more":                  http.StatusBadRequest,
				"sha256=..%2f" + r.Digest.Encoded() + "/signature-1":                  http.StatusBadRequest,
				"sha256=" + strings.ToUpper(r.Digest.Encoded()) + "/signature-1":      http.StatusBadRequest,
				"sha512=" + r.Digest.Encoded() + "/signature-1":                       http.StatusBadRequest,
				"sha256=" + r.Digest.Encoded() + "/signature-99999999999999999999999": http.StatusBadRequest,
				"sha256=" + r.Digest.Encoded() + "/signature-999999":                  http.StatusNotFound,
			} {
				if status, text := u.get(t, at+path); status != want {
					t.Errorf("%s%s: %d %s", at, path, status, text)
				}
			}
		}
	})
}

// TestUpdates_followsTheStore changes the store in each way there is.
func TestUpdates_followsTheStore(t *testing.T) {
	u := newUpdated(t)
	u.channels("stable-4.18")
	u.becomes("stable-4.18", "4.18.1 4.18.2 4.18.3")
	second, _ := u.source.Release("4.18.2", "amd64")
	if status, text := u.as(t, "push", http.MethodDelete, "/v2/openshift/release-images/manifests/"+second.Digest.String()); status != http.StatusAccepted {
		t.Fatalf("the delete is answered %d %s", status, text)
	}
	u.becomes("stable-4.18", "4.18.1 4.18.3")
	u.running = u.restart(t)
	u.becomes("stable-4.18", "4.18.1 4.18.3")
	u.push(second.Payload, "ocp4/openshift4:4.18.2-x86_64")
	u.becomes("stable-4.18", "4.18.1 4.18.2 4.18.3")
	_, g, _ := u.graph("stable-4.18", "amd64")
	if want := host + "/ocp4/openshift4@" + second.Digest.String(); g.Nodes[1].Payload != want {
		t.Errorf("a release that a client has pushed is %s, not %s", g.Nodes[1].Payload, want)
	}
	if status, text := u.as(t, "push", http.MethodDelete, "/v2/openshift/graph-image/manifests/latest"); status != http.StatusAccepted {
		t.Fatalf("the delete is answered %d %s", status, text)
	}
	u.push(second.Payload, "secret/graph-image:broken")
	for range 200 {
		status, _, text := u.graph("stable-4.18", "amd64")
		if strings.Contains(text, "secret") {
			t.Fatalf("without a login it names a repository: %s", text)
		}
		offered, err := u.admin.Updates(t.Context(), api.UpdatesRequest{})
		must(t, err)
		if status == http.StatusInternalServerError && strings.Contains(text, "platform.graph: true") && len(offered.Problems) == 1 &&
			strings.HasPrefix(offered.Problems[0].Where, "secret/graph-image") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("graphs are served without graph data")
}

// TestUpdates_followsWaysBack has the graph be that of what is there after a rollback, a collection and a
// restore.
func TestUpdates_followsWaysBack(t *testing.T) {
	u := newUpdated(t)
	u.channels("stable-4.17")
	u.becomes("stable-4.17", "4.16.2 4.17.2")
	saved := filepath.Join(u.dir, "backup")
	_, err := registry.Backup(t.Context(), u.admin, u.cfg, os.Getuid(), saved, backup.Options{})
	must(t, err)
	u.channels("stable-4.18")
	u.becomes("stable-4.18", "4.18.1 4.18.2 4.18.3")
	past, err := u.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	_, err = u.admin.Rollback(t.Context(), past[0].ID, api.RollbackRequest{})
	must(t, err)
	u.becomes("stable-4.18", "")
	old, _ := u.source.Release("4.17.2", "amd64")
	if status, text := u.as(t, "push", http.MethodDelete, "/v2/openshift/release-images/manifests/"+old.Digest.String()); status != http.StatusAccepted {
		t.Fatalf("the delete is answered %d %s", status, text)
	}
	_, err = u.admin.GC(t.Context(), api.GCRequest{GracePeriod: new(api.Duration)}, nil)
	must(t, err)
	u.becomes("stable-4.17", "4.16.2")
	u.running = u.restart(t)
	u.becomes("stable-4.17", "4.16.2")
	u.becomes("stable-4.18", "")
	u.end(t)
	for _, dir := range []string{filepath.Dir(u.cfg.Database), u.cfg.Storage} {
		must(t, errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)))
	}
	_, err = registry.Restore(t.Context(), u.cfg, saved, backup.RestoreOptions{})
	must(t, err)
	u.running = run(t, u.cfg, u.roots)
	u.becomes("stable-4.17", "4.16.2 4.17.2")
	u.becomes("stable-4.18", "")
}

// push copies an image as skopeo does.
func (u *updated) push(from, to string) {
	u.t.Helper()
	source, err := name.ParseReference(from, name.Insecure)
	must(u.t, err)
	image, err := remote.Image(source)
	must(u.t, err)
	u.put(to, image)
}

func (u *updated) put(to string, image v1.Image) {
	u.t.Helper()
	at, err := name.ParseReference(host + "/" + to)
	must(u.t, err)
	must(u.t, remote.Write(at, image, u.remote(u.t, "push", password)...))
}

// TestUpdates_namesOfTheMirror has payloads named as they are here.
func TestUpdates_namesOfTheMirror(t *testing.T) {
	u := newUpdated(t, func(c *config.Config) { c.Updates.Payloads = config.PayloadsMirror })
	u.channels("stable-4.17")
	u.becomes("stable-4.17", "4.16.2 4.17.2")
	_, g, _ := u.graph("stable-4.17", "multi")
	r, _ := u.source.Release("4.16.2", "multi")
	if want := host + "/openshift/release-images@" + r.Digest.String(); g.Nodes[0].Payload != want {
		t.Errorf("the payload is %s, not %s", g.Nodes[0].Payload, want)
	}
}

// TestUpdates_requests has the answers to requests of each form, in the order of the reference.
func TestUpdates_requests(t *testing.T) {
	u := newUpdated(t)
	const missing = `{"kind":"missing_params","value":"mandatory client parameters missing: channel"}`
	if status, text := u.get(t, graphPath); status != http.StatusBadRequest || strings.TrimSpace(text) != missing {
		t.Errorf("without a channel an empty registry answers %d %s", status, text)
	}
	if status, text := u.get(t, graphPath+"?channel=A_b"); status != http.StatusInternalServerError {
		t.Errorf("a bad channel at an empty registry: %d %s", status, text)
	}
	u.channels("stable-4.17")
	u.becomes("stable-4.17", "4.16.2 4.17.2")
	const empty = `{"version":1,"nodes":[],"edges":[],"conditionalEdges":[]}`
	for path, want := range map[string]string{
		graphPath + "?channel=":                         `400 {"kind":"invalid_params","value":"invalid client parameters: channel '' does not match regex '^[0-9a-z\\-\\.]+$'"}`,
		graphPath + "?channel=Stable_4":                 `400 {"kind":"invalid_params","value":"invalid client parameters: channel 'Stable_4' does not match regex '^[0-9a-z\\-\\.]+$'"}`,
		graphPath + "?channel=a&arch=x86_64":            `400 {"kind":"invalid_params","value":"invalid client parameters: arch 'x86_64' does not match regex '^[0-9a-z]+$'"}`,
		graphPath + "?channel=a&arch=":                  `400 {"kind":"invalid_params","value":"invalid client parameters: arch '' does not match regex '^[0-9a-z]+$'"}`,
		graphPath + "?channel=stable-4.17&arch=%zz":     `400 {"kind":"invalid_params","value":"invalid client parameters: arch '%zz' does not match regex '^[0-9a-z]+$'"}`,
		graphPath + "?channel=stable-4.17&arch=amd64;x": `400 {"kind":"invalid_params","value":"invalid client parameters: arch 'amd64;x' does not match regex '^[0-9a-z]+$'"}`,
		graphPath + "?%63hannel=none&other=%zz":         "200 " + empty,
		graphPath + "?channel=none":                     "200 " + empty,
		graphPath + "?channel=stable-4.17&arch=aarch64": "200 " + empty,
		graphPath + "?channel=stable-4.17&channel=none": "200 " + empty,
		"/api/upgrades_info/":                           "404 ",
		"/api/upgrades_info/v2/graph":                   "404 ",
		"/api/upgrades_info/v1/graph/":                  "404 ",
	} {
		if status, text := u.get(t, path); fmt.Sprintf("%d %s", status, strings.TrimSpace(text)) != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	of := graphPath + "?channel=stable-4.17"
	for accept, want := range map[string]string{
		"": "application/vnd.redhat.cincinnati.v1+json", "application/json": "application/json",
		"application/vnd.redhat.cincinnati.v1+json": "application/vnd.redhat.cincinnati.v1+json",
		"application/*": "application/json", "*/*": "application/json", "*": "application/json",
		"text/html, application/json;q=0.9, */*;q=0.1": "application/json", "text/html": "", "application/json;q=0": "",
	} {
		header := "Accept"
		if accept == "" {
			header = ""
		}
		a := u.ask(t, "", of, header, accept)
		if want == "" && (a.status != http.StatusNotAcceptable || !strings.Contains(a.text, `"invalid_content_type"`)) || want != "" && a.header.Get("Content-Type") != want {
			t.Errorf("Accept %q: %d %s", accept, a.status, a.header.Get("Content-Type"))
		}
	}
	for _, path := range []string{"/api/upgrades_info/graph", "/api/upgrades_info/openapi", "/api/upgrades_info/v1/openapi"} {
		a := u.ask(t, "", path+"?channel=stable-4.17", "", "")
		if a.status != http.StatusOK || !json.Valid([]byte(a.text)) || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodOptions} {
		if status, _ := u.as(t, "", method, of); status != http.StatusMethodNotAllowed {
			t.Errorf("%s is answered %d", method, status)
		}
	}
	plain := u.ask(t, "", of, "Accept-Encoding", "identity")
	zipped := u.ask(t, "", of, "Accept-Encoding", "gzip, br")
	if plain.header.Get("Content-Encoding") != "" || zipped.header.Get("Content-Encoding") != "gzip" || len(zipped.text) >= len(plain.text) {
		t.Errorf("plain %v, gzip %v", plain.header, zipped.header)
	}
	for _, tag := range []string{plain.header.Get("Etag"), zipped.header.Get("Etag"), "W/" + plain.header.Get("Etag"), `"x", ` + plain.header.Get("Etag"), "*"} {
		if a := u.ask(t, "", of, "If-None-Match", tag); a.status != http.StatusNotModified || a.text != "" {
			t.Errorf("If-None-Match %s: %d", tag, a.status)
		}
	}
	if a := u.ask(t, "", of, "If-None-Match", `"x"`); a.status != http.StatusOK {
		t.Errorf("another tag: %d", a.status)
	}
}
