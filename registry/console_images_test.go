package registry_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

const hostile = `<script>alert(1)</script>"'>`

// image pushes an image whose labels, annotations, author and commands are hostile.
func (r *running) image(t *testing.T, at string, attach ...v1.Descriptor) v1.Image {
	t.Helper()
	img, err := random.Image(2048, 2)
	must(t, err)
	c, err := img.ConfigFile()
	must(t, err)
	c.Author, c.OS, c.Architecture = hostile, hostile, "amd64"
	c.Config = v1.Config{User: hostile, Env: []string{"A=" + hostile}, Labels: map[string]string{hostile: hostile}, Entrypoint: []string{hostile}, WorkingDir: hostile}
	for i := range c.History {
		c.History[i].CreatedBy = fmt.Sprint("RUN ", i, hostile, strings.Repeat(" long", 100))
	}
	img, err = mutate.ConfigFile(img, c)
	must(t, err)
	img = mutate.Annotations(img, map[string]string{"evil" + hostile: hostile}).(v1.Image)
	for _, d := range attach {
		img = mutate.Subject(img, d).(v1.Image)
	}
	must(t, remote.Write(tag(t, at), img, r.remote(t, "admin", password)...))
	return img
}

func digestOf(t *testing.T, img interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := img.Digest()
	must(t, err)
	return d.String()
}

// index pushes an index of some images.
func (r *running) index(t *testing.T, at string, images ...v1.Image) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for i, img := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[i]}}})
	}
	must(t, remote.WriteIndex(tag(t, at), index, r.remote(t, "admin", password)...))
	return index
}

// limited makes a user that may use some repositories.
func (r *running) limited(t *testing.T, name, role string, repositories ...string) *surfer {
	t.Helper()
	_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: name, Role: role, Password: password, Repositories: repositories})
	must(t, err)
	return r.logIn(t, name)
}

// has fails unless a page is there and has, or with "!" has not, some texts.
func (s *surfer) has(t *testing.T, path string, texts ...string) string {
	t.Helper()
	code, at, body := s.get(t, path)
	if code != http.StatusOK {
		t.Errorf("%s: %d, at %s", path, code, at)
	}
	for _, text := range texts {
		if wanted := strings.TrimPrefix(text, "!"); strings.Contains(body, wanted) == strings.HasPrefix(text, "!") {
			t.Errorf("%s: %q is wrong in\n%s", path, text, body)
		}
	}
	if strings.Contains(body, "<script>alert") {
		t.Errorf("%s runs what an image has", path)
	}
	return body
}

func TestConsole_repositories(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "pull")
	s.has(t, "/repositories", "There are no images yet", "podman push "+host+"/NAME:TAG")
	one, other := r.image(t, "team/app:v1"), r.image(t, "other/secret:v1")
	for i := range 60 {
		must(t, remote.Tag(tag(t, fmt.Sprintf("team/app:build-%02d", i)), one, r.remote(t, "admin", password)...))
		must(t, remote.Write(tag(t, fmt.Sprintf("many/app-%02d:v1", i)), other, r.remote(t, "admin", password)...))
	}
	if code, at, _ := s.get(t, "/"); code != http.StatusOK || at != "/repositories" {
		t.Errorf("a user of role pull begins at %s: %d", at, code)
	}
	s.has(t, "/repositories", `href="/repositories/many/app-00"`, "!app-50", "!other/secret", "after=many%2Fapp-49")
	s.has(t, "/repositories?after=many%2Fapp-49", `href="/repositories/other/secret"`, `href="/repositories/team/app"`, `>61</td>`, "!Next page", "First page")
	s.has(t, "/repositories?search=APP-5", "many/app-59", "!team/app", `value="APP-5"`)
	s.has(t, "/repositories?search="+url.QueryEscape(hostile), "Nothing has such a name")
	s.has(t, "/repositories/team/app", "build-49", "!build-50", "Next page", `href="/repositories/team/app?image=build-00"`)
	s.has(t, "/repositories/team/app?search=V1", `?image=v1"`, "!build-", "!Next page")
	if code, _, body := s.get(t, "/repositories/none/there"); code != http.StatusNotFound || !strings.Contains(body, "There is no repository none/there") {
		t.Errorf("a repository that does not exist: %d", code)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/repositories?search=secret", nil)
	must(t, err)
	req.Header.Set("HX-Request", "true")
	req.Header.Set("HX-Target", "found")
	if code, _, body := s.do(t, req); code != http.StatusOK || strings.Contains(body, "<html") || !strings.Contains(body, "other/secret") {
		t.Errorf("the part that a search asks for: %d %s", code, body)
	}
}

func TestConsole_image(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "pull")
	one, two := r.image(t, "team/app:one"), r.image(t, "team/app:two")
	index := r.index(t, "team/app:v1", one, two)
	at, shown := "/repositories/team/app?image=", digestOf(t, index)
	d, err := remote.Head(tag(t, "team/app:v1"), r.remote(t, "admin", password)...)
	must(t, err)
	attached := r.image(t, "team/app:attached", *d)
	r.image(t, "team/app:"+strings.Replace(shown, ":", "-", 1)+".sig")

	body := s.has(t, at+"v1", "image of several platforms", "linux/arm64", "podman pull "+host+"/team/app:v1", "oc image info "+host+"/team/app:v1 --filter-by-os=linux/amd64", "skopeo copy --all docker://"+host+"/team/app:v1",
		"its subject", ".sig</span>", url.QueryEscape(digestOf(t, one)), url.QueryEscape(digestOf(t, attached)), "a push or a delete", "!Delete the tag")
	if strings.Contains(body, "Configuration</h2>") {
		t.Error("an index has a configuration")
	}
	s.has(t, at+digestOf(t, one), "&lt;script&gt;alert(1)", "Configuration</h2>", "RUN 0", "Environment (1)", "Labels (1)", "Annotations (1)", "Part of", url.QueryEscape(shown))
	s.has(t, at+digestOf(t, attached), "Attached to", url.QueryEscape(shown))
	for _, ref := range []string{"none", "sha256:" + strings.Repeat("0", 64), "sha256:0", hostile, "..", strings.Repeat("x", 5000)} {
		if code, _, body := s.get(t, at+url.QueryEscape(ref)); code != http.StatusNotFound || strings.Contains(body, "<script>alert") {
			t.Errorf("%.40s: %d", ref, code)
		}
	}
}

// What a user may not see does not exist for it, on any page and in no count.
func TestConsole_imageGrants(t *testing.T) {
	r := start(t)
	shared := r.image(t, "team/app:v1")
	must(t, remote.Write(tag(t, "secret/app:v1"), shared, r.remote(t, "admin", password)...))
	extended, err := mutate.Append(shared, mutate.Addendum{Layer: randomLayer(t)})
	must(t, err)
	must(t, remote.Write(tag(t, "secret/app:v2"), extended, r.remote(t, "admin", password)...))
	hers := r.limited(t, "limited", "push", "team/*")
	hers.has(t, "/repositories", "team/app", "!secret")
	hers.has(t, "/repositories?search=secret", "Nothing has such a name", "!secret/app")
	hers.has(t, "/repositories/team/app?image=v1", "Delete the image", "!What needs it", `data-label="Other images with it">0</td>`, `!data-label="Other images with it">1</td>`, "!secret")
	hers.has(t, "/images/delete?repository=team/app&image="+digestOf(t, shared), "What goes", "!secret")
	if code, _, body := hers.get(t, "/images/needs?repository=team/app&image=v1"); code != http.StatusForbidden || !strings.Contains(body, "ask an administrator") {
		t.Errorf("who may not see all is told what needs an image: %d", code)
	}
	r.logIn(t, "pull").has(t, "/repositories/team/app?image=v1", `data-label="Other images with it">1</td>`)
	for _, path := range []string{"/repositories/secret/app", "/repositories/secret/app?image=v1", "/images/delete?repository=secret/app&image=v1"} {
		got, _, there := hers.get(t, path)
		want, _, absent := hers.get(t, strings.Replace(path, "secret", "absent", 1))
		if got != http.StatusNotFound || want != got || strings.ReplaceAll(absent, "absent", "secret") != there {
			t.Errorf("%s is answered with %d, and what does not exist with %d", path, got, want)
		}
	}
	if code, _, _ := hers.send(t, "/repositories/team/app", "/images/delete", url.Values{"repository": {"secret/app"}, "image": {"v1"}}); code != http.StatusNotFound {
		t.Errorf("a delete beyond the grants: %d", code)
	}
	if _, err := remote.Head(tag(t, "secret/app:v1"), r.remote(t, "admin", password)...); err != nil {
		t.Errorf("it has deleted what it may not see: %v", err)
	}
	r.limited(t, "lost", "pull", "none/*").has(t, "/repositories", "There is no image in the repositories that you may see", "!podman")
}

// What anonymous clients may pull, a user with grants sees, and does not delete.
func TestConsole_imageOpen(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AnonymousPull = []string{"open/*"} })
	r.image(t, "open/app:v1")
	hers := r.limited(t, "limited", "push", "team/*")
	hers.has(t, "/repositories/open/app?image=v1", "podman pull", "!Delete the image")
	if code, _, _ := hers.get(t, "/images/delete?repository=open/app&image=v1"); code != http.StatusNotFound {
		t.Errorf("the plan of a delete beyond the grants: %d", code)
	}
	if code, _, _ := hers.send(t, "/repositories", "/images/delete", url.Values{"repository": {"open/app"}, "image": {"v1"}}); code != http.StatusNotFound {
		t.Errorf("a delete beyond the grants: %d", code)
	}
	if _, err := remote.Head(tag(t, "open/app:v1"), r.remote(t, "admin", password)...); err != nil {
		t.Errorf("it has deleted what it may only pull: %v", err)
	}
}

func randomLayer(t *testing.T) v1.Layer {
	t.Helper()
	l, err := random.Layer(1024, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	must(t, err)
	return l
}

func TestConsole_deleteImageAlone(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "push")
	d := digestOf(t, r.image(t, "team/app:v1"))
	signature := "team/app:" + strings.Replace(d, ":", "-", 1) + ".sig"
	r.image(t, signature)
	s.has(t, "/images/delete?repository=team/app&image="+d, "since deleteReferrers is off in config.yaml: signature <code", "!"+signature)
	s.send(t, "/", "/images/delete", url.Values{"repository": {"team/app"}, "image": {d}})
	if _, err := remote.Head(tag(t, signature), r.remote(t, "admin", password)...); err != nil {
		t.Errorf("what is said to stay is gone: %v", err)
	}
}

func TestConsole_deleteImage(t *testing.T) {
	r := start(t, func(c *config.Config) { c.DeleteReferrers = true })
	s, reader := r.logIn(t, "push"), r.logIn(t, "pull")
	one, two := r.image(t, "team/app:one"), r.image(t, "team/app:two")
	index := r.index(t, "team/app:v1", one, two)
	must(t, remote.Tag(tag(t, "team/app:latest"), index, r.remote(t, "admin", password)...))
	must(t, remote.Delete(tag(t, "team/app:two"), r.remote(t, "admin", password)...)) // it is in the index still
	signature := strings.Replace(digestOf(t, index), ":", "-", 1) + ".sig"
	r.image(t, "team/app:"+signature)
	ask := "/images/delete?repository=team/app&image="
	exists := func(ref string) bool {
		code, _ := r.as(t, "admin", http.MethodHead, "/v2/team/app/manifests/"+ref)
		return code == http.StatusOK
	}
	for _, path := range []string{ask + "v1", "/images/needs?repository=team/app&image=v1"} {
		if code, _, _ := reader.get(t, path); code != http.StatusForbidden {
			t.Errorf("a user of role pull gets %s: %d", path, code)
		}
	}
	if code, _, body := reader.send(t, "/repositories", "/images/delete", url.Values{"repository": {"team/app"}, "image": {"v1"}}); code != http.StatusForbidden || !strings.Contains(body, "role push or admin") {
		t.Errorf("a user of role pull deletes: %d", code)
	}
	s.has(t, "/images/needs?repository=team/app&image=v1", "Nothing else needs it.")

	s.has(t, ask+"v1", "Delete team/app:v1?", "Other tags of the image", "latest", "Deleting a tag frees nothing", "!"+signature)
	if code, at, body := s.send(t, ask+"v1", "/images/delete", url.Values{"repository": {"team/app"}, "image": {"v1"}}); code != http.StatusOK || at != "/repositories/team/app" || !strings.Contains(body, "team/app:v1 is deleted.") {
		t.Errorf("a tag is deleted: %d %s", code, at)
	}
	if exists("v1") || !exists("latest") || !exists(signature) {
		t.Error("the delete of a tag is not that of the tag alone")
	}

	s.has(t, ask+digestOf(t, index), "latest", signature, "linux/arm64", "Images that it lists, and that something else keeps", "The next collection frees", "skopeo delete docker://"+host+"/team/app@"+digestOf(t, index))
	s.send(t, ask+digestOf(t, index), "/images/delete", url.Values{"repository": {"team/app"}, "image": {digestOf(t, index)}})
	if exists("latest") || exists(signature) || exists(digestOf(t, two)) || !exists("one") {
		t.Error("the delete of an image is not what was told")
	}
	for _, line := range []string{`event="delete tag" user=push remote=127.0.0.1:`, `event=delete user=push remote=127.0.0.1:`} {
		if !strings.Contains(r.log.String(), line) {
			t.Errorf("the audit has no %s", line)
		}
	}

	_, err := r.admin.AttachCluster(t.Context(), api.AttachRequest{Name: "prod" + hostile, Facts: state.Facts{ID: "c-1", Releases: []state.Release{{Version: "4.18.1", Image: host + "/team/app@" + digestOf(t, one)}}}})
	must(t, err)
	s.has(t, ask+"one", "It cannot be deleted", "is needed by cluster prod", "!Delete the tag")
	if code, _, body := s.send(t, "/repositories/team/app", "/images/delete", url.Values{"repository": {"team/app"}, "image": {"one"}}); code != http.StatusConflict || !strings.Contains(body, "is needed by cluster prod") || !exists("one") {
		t.Errorf("what a cluster needs is deleted: %d", code)
	}
}
