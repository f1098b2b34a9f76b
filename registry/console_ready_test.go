package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/console/consoletest"
)

// exported is what oc tells of a cluster.
const exported = `{"apiVersion":"v1","kind":"List","items":[
	{"kind":"Secret","apiVersion":"v1","metadata":{"namespace":"a","name":"b"},"data":{"password":"c2VjcmV0LW9mLWNsdXN0ZXI="}},
	{"kind":"ClusterVersion","apiVersion":"config.openshift.io/v1","metadata":{"name":"version"},"spec":{"clusterID":"c-1","channel":"eus-4.18"},"status":{"history":[{"state":"Completed","version":"4.16.2"}]}},
	{"kind":"ClusterServiceVersion","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"a","name":"b.v1"}}]}`

// sendFile posts a form with a file, whose other fields are in their order: name, value.
func (s *surfer) sendFile(t *testing.T, path string, file io.Reader, fields ...string) (code int, at, body string) {
	t.Helper()
	out, in := io.Pipe()
	form := multipart.NewWriter(in)
	go func() {
		for i := 0; i < len(fields); i += 2 {
			if fields[i] == "FILE" {
				if w, err := form.CreateFormFile(fields[i+1], "cluster.json"); err == nil {
					_, _ = io.Copy(w, file)
				}
				continue
			}
			_ = form.WriteField(fields[i], fields[i+1])
		}
		in.CloseWithError(form.Close())
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+path, out)
	must(t, err)
	req.Header.Set("Content-Type", form.FormDataContentType())
	return s.do(t, req)
}

func TestConsole_ready(t *testing.T) {
	u := newUpdated(t)
	u.mirror("  platform:\n    graph: true\n    channels: [{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.1, full: true}]\n")
	u.becomes("eus-4.18", "4.16.2 4.17.2 4.18.1")
	s := u.logIn(t, "admin")
	page := s.shows(t, "/updates/ready?to=4.18.1&from=4.16.2&channel=eus-4.18&arch=amd64", 200, "No verdict yet", `value="4.16.2"`, `value="amd64" checked`, `<option value="4.18.1">`, "oc get csv,subscription")
	csrf := consoletest.CSRF(page)
	s.shows(t, "/updates/ready/image-set", 404, "there is no verdict")

	if code, at, body := s.send(t, "/updates/ready", "/updates/ready", url.Values{"to": {"4.18.1"}, "from": {"4.16.2"}, "channel": {"eus-4.18"}, "arch": {"amd64"}}); code != 200 || at != "/updates/ready" || !strings.Contains(body, "The verdict is being made.") {
		t.Errorf("a verdict: %d %s", code, at)
	}
	u.judged(t, "4.18.1")
	s.shows(t, "/updates/ready", 200, "From 4.16.2 to 4.18.1", "No: ", "4.16.2 → 4.17.2 → 4.18.1", "operators-unknown", "What to do", "appliance ready --from 4.16.2 --to 4.18.1 --channel eus-4.18 --arch amd64<", `value="4.18.1"`)

	for to, want := range map[string]string{"4.18": "is not a release", "4.99.1": "this release is not here"} {
		s.send(t, "/updates/ready", "/updates/ready", url.Values{"to": {to}})
		u.judged(t, to)
		s.shows(t, "/updates/ready", 200, "Installation of "+to, want)
	}
	s.send(t, "/updates/ready", "/updates/ready", url.Values{"to": {"4.99.1"}})
	u.judged(t, "4.99.1")
	s.shows(t, "/updates/ready/image-set", 200, "kind: ImageSetConfiguration", "4.99.1", "Download")
	if code, _, body := s.get(t, "/updates/ready/image-set?download=on"); code != 200 || !strings.HasPrefix(body, "#") && !strings.HasPrefix(body, "kind:") && !strings.HasPrefix(body, "apiVersion:") {
		t.Errorf("a download: %d %s", code, body)
	}

	t.Run("keys", func(t *testing.T) {
		form := url.Values{"to": {"4.16.2"}, "arch": {"amd64"}, "keys": {string(u.source.ReleaseKey())}}
		s.send(t, "/updates/ready", "/updates/ready", form)
		if v := u.judged(t, "4.16.2").Verdict; v == nil || v.Signatures == 0 || slices.ContainsFunc(v.Reasons, func(r api.Reason) bool { return strings.HasPrefix(r.Code, "release-") }) {
			t.Errorf("the verdict with the key is %+v", v)
		}
		s.shows(t, "/updates/ready", 200, "--release-key FILE", "!PGP PUBLIC KEY BLOCK-----\n")
	})
	t.Run("what a cluster tells", func(t *testing.T) {
		code, at, body := s.sendFile(t, "/updates/ready", strings.NewReader(exported), "csrf", csrf, "to", "4.18.1", "FILE", "state")
		if code != 200 || at != "/updates/ready" || !strings.Contains(body, "The verdict is being made.") {
			t.Fatalf("a verdict: %d %s %s", code, at, body)
		}
		until(t, "the verdict", func() bool { return u.judged(t, "4.18.1").Asked.Cluster != "" })
		s.shows(t, "/updates/ready", 200, "From what the cluster runs to 4.18.1", "Of cluster c-1", "operator-unsubscribed", "--cluster-state cluster.json", "!c2VjcmV0")
		for want, file := range map[string]io.Reader{
			"it is not JSON of oc get":      strings.NewReader("[]"),
			"no ClusterVersion":             strings.NewReader(`{"items":[]}`),
			"unexpected EOF":                strings.NewReader(exported[:len(exported)-4]),
			"The file is larger than 64 Mi": io.MultiReader(strings.NewReader(`{"items":["`), io.LimitReader(letters{}, 66<<20)),
		} {
			code, at, body := s.sendFile(t, "/updates/ready", file, "csrf", csrf, "to", "4.18.1", "arch", "arm64", "FILE", "state")
			if code != 400 && code != 413 || at != "/updates/ready" || !strings.Contains(body, want) || !strings.Contains(body, `value="arm64" checked`) {
				t.Errorf("%s: %d %s %.3000s", want, code, at, body)
			}
		}
	})
	t.Run("only a form of the session", func(t *testing.T) {
		other := consoletest.CSRF(s.shows(t, "/updates/ready", 200))
		_, _, shown := u.logIn(t, "admin").get(t, "/updates/ready")
		foreign := consoletest.CSRF(shown)
		for _, fields := range [][]string{{"to", "4.17.2", "FILE", "state"}, {"to", "4.17.2", "FILE", "state", "csrf", other}, {"csrf", foreign, "to", "4.17.2", "FILE", "state"}} {
			if code, _, _ := s.sendFile(t, "/updates/ready", strings.NewReader(exported), fields...); code != 403 {
				t.Errorf("%q: %d", fields, code)
			}
		}
		if code, _, _ := s.sendFile(t, "/updates/ready", strings.NewReader(exported), "csrf", csrf, "to", strings.Repeat("4", 2<<20), "FILE", "state"); code != 400 {
			t.Errorf("a long field: %d", code)
		}
	})
	t.Run("roles", func(t *testing.T) {
		for _, user := range []string{"pull", "push"} {
			reader := u.logIn(t, user)
			for _, path := range []string{"/updates/ready", "/updates/ready/live", "/updates/ready/image-set", "/updates/clusters", "/updates/clusters/c-1/detach"} {
				if code, _, _ := reader.get(t, path); code != 403 {
					t.Errorf("%s gets %s: %d", user, path, code)
				}
			}
			for _, path := range []string{"/updates/ready", "/updates/ready/stop", "/updates/clusters/c-1/detach"} {
				if code, _, _ := reader.send(t, "/documentation", path, url.Values{"to": {"4.17.2"}}); code != 403 {
					t.Errorf("%s acts by %s: %d", user, path, code)
				}
			}
		}
	})
}

// letters is a reader without an end.
type letters struct{}

func (letters) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

// A verdict under way is shown as it goes on, and ends when it is cancelled.
func TestConsole_readyLive(t *testing.T) {
	u := newUpdated(t)
	u.mirror("  platform:\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]\n")
	s := u.logIn(t, "admin")
	must(t, u.admin.BeginReady(t.Context(), api.ReadyRequest{To: "4.18.1", Content: true, BytesPerSecond: 1}))
	until(t, "the progress", func() bool {
		_, body := s.looks(t, "/updates/ready/live")
		return strings.Contains(body, "Reading the content") && strings.Contains(body, "Installation of 4.18.1")
	})
	if code, at, body := s.send(t, "/updates/ready", "/updates/ready", url.Values{"to": {"4.18.1"}}); code != http.StatusConflict || at != "/updates/ready" || !strings.Contains(body, "a verdict is under way already") {
		t.Errorf("a second one: %d %s", code, at)
	}
	if code, at, body := s.send(t, "/updates/ready", "/updates/ready/stop", url.Values{}); code != 200 || at != "/updates/ready" || !strings.Contains(body, "The verdict is cancelled.") {
		t.Errorf("a stop: %d %s", code, at)
	}
	until(t, "its end", func() bool {
		now, err := u.admin.ReadyState(t.Context())
		return err == nil && now.Running == nil
	})
	s.shows(t, "/updates/ready", 200, "No verdict yet")
}

func TestConsole_clusters(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	s.shows(t, "/updates/clusters", 200, "No cluster is attached", "oc get clusterversion,csv", "appliance pin cluster prod.json --name prod docker://"+host, "/documentation/updates.md#what-clusters-run-stays")
	s.shows(t, "/documentation/updates.md", 200, `id="what-clusters-run-stays"`)
	for i, name := range []string{"prod", ""} {
		_, err := r.admin.AttachCluster(t.Context(), api.AttachRequest{Name: name, User: "pull", Facts: state.Facts{ID: fmt.Sprint("c-", i), Version: "4.16.2", Channel: "eus-4.18",
			Releases: []state.Release{{Version: "4.16.2", Image: "quay.io/a/b@sha256:" + strings.Repeat("a", 64)}}}})
		must(t, err)
	}
	s.shows(t, "/updates/clusters", 200, "<strong>prod</strong>", "c-1", "eus-4.18", "0 of 1 images that it needs are here", "by user pull", "/updates/ready?channel=eus-4.18&amp;from=4.16.2", "/updates/clusters/c-0/detach")
	s.shows(t, "/updates/clusters/c-0/detach", 200, "Detach prod?", "appliance pin cluster remove c-0")
	s.shows(t, "/updates/clusters/prod/detach", 404, "No cluster prod is attached.") // by its id alone
	if code, at, body := s.send(t, "/updates/clusters/c-0/detach", "/updates/clusters/c-0/detach", url.Values{}); code != 200 || at != "/updates/clusters" || !strings.Contains(body, "The cluster prod is detached.") {
		t.Errorf("a detach: %d %s", code, at)
	}
	if all, err := r.admin.Clusters(t.Context()); err != nil || len(all) != 1 || all[0].ID != "c-1" {
		t.Errorf("attached are %+v: %v", all, err)
	}
	if code, _, _ := s.send(t, "/updates/clusters/c-1/detach", "/updates/clusters/c-0/detach", url.Values{}); code != 404 {
		t.Errorf("a second time: %d", code)
	}
}
