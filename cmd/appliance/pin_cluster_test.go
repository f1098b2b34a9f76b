package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const clusterID = "3a5f0e4c-93ab-4c6e-9d5f-0d1f1c0b8a11"

// newClusterStore is an appliance with four releases and an image.
func newClusterStore(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	t.Setenv("OCP_SIGNATURE_URL", "http://"+s.source+"/nowhere/")
	set := s.set(t, "set.yaml", "  platform:\n    channels: [{name: stable-4.18, full: true}]\n  additionalImages:\n  - name: HOST/samples/oci:v1\n  - name: HOST/samples/docker:v1\n")
	s.mirror(t, set)
	return s
}

// export writes what a cluster tells of itself: it runs the first version, and ran the next before, and so on.
func (s *site) export(t *testing.T, versions ...string) (file string) {
	t.Helper()
	content, err := sample.New(s.source)
	must(t, err)
	var history []string
	for _, v := range versions {
		r, ok := content.Release(v, "amd64")
		if !ok {
			t.Fatalf("no release %s", v)
		}
		history = append(history, fmt.Sprintf(`{"state":"Completed","version":%q,"image":"quay.io/openshift-release-dev/ocp-release@%s"}`, v, r.Digest))
	}
	return s.file(t, "cluster.json", `{"items":[{"kind":"ClusterVersion","apiVersion":"config.openshift.io/v1","metadata":{"name":"version"},"spec":{"clusterID":"`+clusterID+`","channel":"stable-4.18"},"status":{"history":[`+
		strings.Join(history, ",")+`]}},{"kind":"ClusterServiceVersion","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"a","name":"b.v1"},"spec":{"relatedImages":[{"image":"`+s.source+`/samples/oci:v1"}]}}]}`)
}

// deletes deletes a manifest over the registry API.
func (s *site) deletes(t *testing.T, at string) (status int, said string) {
	t.Helper()
	a, err := s.ask(t.Context(), http.MethodDelete, "/v2/"+at, nil)
	must(t, err)
	return a.status, string(a.body)
}

func TestPinCluster(t *testing.T) {
	s := newClusterStore(t)
	at := []string{"docker://" + s.address, "--dest-creds", "admin:" + faultPassword}
	out := s.works(t, slices.Concat([]string{"pin", "cluster", s.export(t, "4.18.2", "4.18.1"), "--name", "prod"}, at)...)
	contains(t, out, "attached prod: it has 4.18.2, 4.18.1; ", " that it needs are here and protected")
	if strings.Contains(out, "warning") {
		t.Error(out)
	}
	var all []api.AttachedCluster
	must(t, json.Unmarshal([]byte(s.works(t, slices.Concat([]string{"pin", "cluster", "list", "-o", "json"}, at)...)), &all))
	if len(all) != 1 || all[0].ID != clusterID || all[0].Held != all[0].Images || all[0].Images < 5 {
		t.Errorf("attached: %+v", all)
	}

	first, component := s.component(t, "4.18.1-x86_64-cluster-version-operator"), s.component(t, "4.18.2-x86_64-cluster-version-operator")
	for _, path := range []string{"openshift/release-images/manifests/4.18.2-x86_64", "openshift/release/manifests/" + first,
		"openshift/release/manifests/" + component, "openshift/release/manifests/4.18.2-x86_64-cluster-version-operator", "samples/oci/manifests/v1"} {
		if status, said := s.deletes(t, path); status != http.StatusForbidden || !strings.Contains(said, `"DENIED"`) || !strings.Contains(said, "cluster prod ("+clusterID+")") {
			t.Errorf("DELETE %s: %d, %s", path, status, said)
		}
	}
	if status, said := s.deletes(t, "samples/docker/manifests/v1"); status != http.StatusAccepted {
		t.Errorf("DELETE of what no cluster needs: %d, %s", status, said)
	}

	less := s.set(t, "set.yaml", "  additionalImages:\n  - name: HOST/samples/oci-multi:v1\n")
	s.mirror(t, less)
	code, out, said := s.run(t, s.by("ws", "mirror", "prune", "-c", less)...)
	if code != 0 {
		t.Fatalf("prune: %d, %s%s", code, out, said)
	}
	contains(t, out, "4.18.2-x86_64-cluster-version-operator stays: cluster prod ("+clusterID+") needs it", "4.18.3-x86_64")
	list := s.dir + "/ws/working-dir/delete/delete-images-prune.yaml"
	text, err := os.ReadFile(list)
	must(t, err)
	if strings.Contains(string(text), ":4.18.2-x86_64") || !strings.Contains(string(text), ":4.18.3-x86_64") {
		t.Errorf("the plan is\n%s", text)
	}
	s.run(t, s.by("ws", "mirror", "prune", "-c", less, "--force")...)
	code, out, said = s.run(t, slices.Concat([]string{"mirror", "prune", "--delete-yaml-file", list, "--force"}, at)...)
	if code == 0 || !strings.Contains(out+said, "cluster prod") {
		t.Errorf("by force: %d, %s%s", code, out, said)
	}
	if s.component(t, "4.18.2-x86_64-cluster-version-operator") != component {
		t.Error("a component was deleted by force")
	}
	if s.component(t, "4.18.3-x86_64-cluster-version-operator") != "" {
		t.Error("what no cluster needs is still there")
	}

	contains(t, s.works(t, slices.Concat([]string{"pin", "cluster", "remove", "prod"}, at)...), "detached prod")
	if status, said := s.deletes(t, "openshift/release-images/manifests/4.18.2-x86_64"); status != http.StatusAccepted {
		t.Errorf("DELETE when it is detached: %d, %s", status, said)
	}
}

// What operators name by tag is protected where a mirror may have put it, however it came; what cannot be read, or
// is not here, is not counted as protected.
func TestPinCluster_images(t *testing.T) {
	s := newSite(t)
	s.mirror(t, s.set(t, "set.yaml", "  additionalImages:\n  - name: HOST/samples/docker:v1\n  - name: HOST/samples/oci:v1\n  - name: HOST/samples/oci-multi:v1\n"))
	for from, to := range map[string]string{"samples/docker/manifests/v1": "samples/docker/manifests/q2", "samples/oci/manifests/v1": "samples/oci/manifests/latest",
		"samples/oci-multi/manifests/v1": "samples/oci-multi/manifests/led"} {
		a, err := s.ask(t.Context(), http.MethodGet, "/v2/"+from, nil)
		must(t, err)
		put, err := s.ask(t.Context(), http.MethodPut, "/v2/"+to, bytes.NewReader(a.body), "Content-Type", a.header.Get("Content-Type"))
		must(t, err)
		if put.status != http.StatusCreated {
			t.Fatalf("PUT %s: %d, %s", to, put.status, put.body)
		}
	}
	names := []string{"quay.io/samples/docker:q2", "quay.io/elsewhere:led", "quay.io/samples/oci", "quay.io/none:v1", "not an image!!", "quay.io/x@sha256:short"}
	file := s.file(t, "more.json", s.operatorOf(t, s.export(t, "4.18.1"), names...)+
		`{"kind":"ImageTagMirrorSet","apiVersion":"config.openshift.io/v1","metadata":{"name":"t"},"spec":{"imageTagMirrors":[{"source":"quay.io/elsewhere","mirrors":["`+s.address+`/samples/oci-multi"]}]}}`)
	var told api.AttachedCluster
	must(t, json.Unmarshal([]byte(s.works(t, "pin", "cluster", file, "--quayRoot", s.root, "-o", "json")), &told))
	if told.Images-told.Held != 4 || len(told.Problems) != 4 { // the release is not here either
		t.Errorf("told when it is attached: %+v", told)
	}
	contains(t, s.works(t, "pin", "cluster", "list", "--quayRoot", s.root), fmt.Sprintf("%d of %d", told.Held, told.Images),
		`cannot be read: "not an image!!"`, `cannot be read: "quay.io/x@sha256:short"`, "image quay.io/none:v1 is not here")
	for _, path := range []string{"samples/docker/manifests/q2", "samples/docker/manifests/v1", "samples/oci/manifests/latest", "samples/oci-multi/manifests/led"} {
		if status, said := s.deletes(t, path); status != http.StatusForbidden {
			t.Errorf("DELETE %s: %d, %s", path, status, said)
		}
	}
}

// What OLM v1 has installed is known from the catalogs that are here, and stays known when they go on.
func TestPinCluster_extensions(t *testing.T) {
	s := newSite(t)
	s.mirror(t, s.set(t, "set.yaml", "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-database, channels: [{name: stable, minVersion: 1.1.0}]}]\n"))
	text, err := os.ReadFile(s.export(t, "4.18.1"))
	must(t, err)
	pin := func(catalog, installed string) (told api.AttachedCluster) {
		t.Helper()
		file := s.file(t, "v1.json", string(text)+`{"kind":"List","items":[{"kind":"ClusterCatalog","apiVersion":"olm.operatorframework.io/v1","metadata":{"name":"ours"},"spec":{"source":{"image":{"ref":"`+catalog+`"}}}},
			{"kind":"ClusterExtension","apiVersion":"olm.operatorframework.io/v1","metadata":{"name":"db"},"spec":{"source":{"catalog":{"packageName":"sample-database"}}},"status":{"install":{"bundle":{"name":"sample-database.v`+installed+`","version":"`+installed+`"}}}}]}`)
		must(t, json.Unmarshal([]byte(s.works(t, "pin", "cluster", file, "--quayRoot", s.root, "-o", "json")), &told))
		return told
	}
	ours, unknown := s.source+"/redhat/redhat-operator-index:v4.18", s.source+"/redhat/redhat-operator-index:v4.99"
	newest := s.bundleOf(t, "1.2.0")
	if told := pin(ours, "1.3.0"); !strings.Contains(strings.Join(told.Problems, " "), "has its bundle sample-database.v1.3.0") {
		t.Errorf("a bundle that is not here: %+v", told)
	}
	if status, said := s.deletes(t, "redhat/redhat-operator-index/manifests/v4.18"); status != http.StatusForbidden {
		t.Errorf("DELETE of the catalog: %d, %s", status, said)
	}
	for _, catalog := range []string{ours, unknown} {
		told := pin(catalog, "1.2.0")
		if strings.Contains(strings.Join(told.Problems, " "), "of OLM v1 is not protected") {
			t.Errorf("with the catalog %s: %+v", catalog, told)
		}
		if status, said := s.deletes(t, newest); status != http.StatusForbidden {
			t.Errorf("DELETE of %s with the catalog %s: %d, %s", newest, catalog, status, said)
		}
	}
	if status, said := s.deletes(t, s.bundleOf(t, "1.1.0")); status != http.StatusAccepted {
		t.Errorf("DELETE of another bundle: %d, %s", status, said)
	}
	if told := pin(unknown, "1.1.0"); !strings.Contains(strings.Join(told.Problems, " "), "has its bundle") {
		t.Errorf("a bundle of no catalog: %+v", told)
	}
	capable := strings.Replace(string(text), `"status":{`, `"status":{"capabilities":{"enabledCapabilities":["OperatorLifecycleManagerV1"]},`, 1)
	contains(t, s.works(t, "pin", "cluster", s.file(t, "none.json", capable), "--quayRoot", s.root), "the operators of OLM v1 are not protected", "oc get clusterextension,clustercatalog")
}

// bundleOf returns the path of the bundle of the database.
func (s *site) bundleOf(t *testing.T, version string) string {
	t.Helper()
	content, err := sample.New(s.source)
	must(t, err)
	m, ok := content.Manifest("operators/sample-database-bundle", "v"+version)
	if !ok {
		t.Fatal("no bundle " + version)
	}
	return "operators/sample-database-bundle/manifests/" + m.Digest.String()
}

// operatorOf returns an export with another operator, which names images.
func (s *site) operatorOf(t *testing.T, file string, images ...string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	related, err := json.Marshal(images)
	must(t, err)
	list := strings.NewReplacer(`["`, `[{"image":"`, `","`, `"},{"image":"`, `"]`, `"}]`).Replace(string(related))
	return string(text) + `{"kind":"ClusterServiceVersion","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"a","name":"more.v1"},"spec":{"relatedImages":` + list + `}}`
}

// A name is that of one cluster, so that it names which is detached.
func TestPinCluster_names(t *testing.T) {
	s := newSite(t)
	file := s.export(t, "4.18.1")
	pin := func(args ...string) (int, string) {
		code, _, said := s.run(t, append(append([]string{"pin", "cluster"}, args...), "--quayRoot", s.root)...)
		return code, said
	}
	if code, said := pin(file, "--name", "prod"); code != 0 {
		t.Fatalf("%d, %s", code, said)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	const id = "b"
	other := s.file(t, "other.json", strings.Replace(string(text), clusterID, id, 1))
	for name, of := range map[string]string{"prod": "another's name", clusterID: "another's id"} {
		if code, said := pin(other, "--name", name); code != 1 || !strings.Contains(said, "cluster "+clusterID+" is called so") || !strings.Contains(said, "pin cluster remove "+clusterID) {
			t.Errorf("%s: %d, %s", of, code, said)
		}
	}
	both := s.file(t, "both.json", string(text)+strings.Replace(string(text), clusterID, id, 1))
	if code, said := pin(both); code != 1 || !strings.Contains(said, `of cluster "b"`) || !strings.Contains(said, "a file for each cluster") {
		t.Errorf("two clusters: %d, %s", code, said)
	}
	if code, said := pin(file, "--name", "prod"); code != 0 {
		t.Errorf("its own name: %d, %s", code, said)
	}
	if code, said := pin("remove", ""); code == 0 || !strings.Contains(said, "the name of the cluster is empty") || !strings.Contains(said, "pin cluster list") {
		t.Errorf("no name: %d, %s", code, said)
	}
	installing := s.file(t, "installing.json", `{"kind":"ClusterVersion","apiVersion":"config.openshift.io/v1","metadata":{"name":"version"},"spec":{"clusterID":"c"},
		"status":{"desired":{"version":"4.18.2","image":"q.io/r@sha256:`+strings.Repeat("1", 64)+`"},"history":[{"state":"Partial","version":"4.18.2","image":"q.io/r@sha256:`+strings.Repeat("1", 64)+`"}]}}`)
	contains(t, s.works(t, "pin", "cluster", installing, "--quayRoot", s.root), "attached c: it has 4.18.2; ")
	code, _, said := s.run(t, "ready", "--to", "4.18.3", "--cluster-state", installing, "--quayRoot", s.root)
	if code != 1 || !strings.Contains(said, "is being installed with 4.18.2") {
		t.Errorf("the verdict about it: %d, %s", code, said)
	}
}

// The cluster pushes what it runs itself, as a user who can only pull.
func TestPinCluster_push(t *testing.T) {
	s := newClusterStore(t)
	path := "/api/v1/clusters/" + clusterID
	push := func(user, path, file string) (int, string) {
		t.Helper()
		body, err := os.Open(file)
		must(t, err)
		defer body.Close()
		a, err := s.ask(t.Context(), http.MethodPut, path, body, "Authorization", "Basic "+cluster.NewAuth(user, faultPassword))
		must(t, err)
		return a.status, string(a.body)
	}
	file := s.export(t, "4.18.1")
	if status, said := push("pull", path, file); status != http.StatusForbidden || !strings.Contains(said, "an administrator attaches the cluster first") {
		t.Errorf("before it is attached: %d, %s", status, said)
	}
	s.works(t, "pin", "cluster", file, "docker://"+s.address, "--dest-creds", "admin:"+faultPassword, "--user", "pull", "--name", "prod")
	if status, said := push("pull", path, s.export(t, "4.18.3", "4.18.2")); status != http.StatusOK || !strings.Contains(said, `"version":"4.18.3"`) {
		t.Errorf("by its user: %d, %s", status, said)
	}
	if status, _ := s.deletes(t, "openshift/release-images/manifests/4.18.3-x86_64"); status != http.StatusForbidden {
		t.Errorf("what it has now: %d", status)
	}
	if status, said := s.deletes(t, "openshift/release-images/manifests/4.18.1-x86_64"); status != http.StatusAccepted {
		t.Errorf("what it had: %d, %s", status, said)
	}
	if status, said := push("pull", "/api/v1/clusters/other", file); status != http.StatusForbidden {
		t.Errorf("another cluster: %d, %s", status, said)
	}
	if status, said := push("admin", "/api/v1/clusters/other", file); status != http.StatusBadRequest {
		t.Errorf("the path and the export differ: %d, %s", status, said)
	}
	if status, said := push("pull", path, s.file(t, "no.json", "{}")); status != http.StatusBadRequest {
		t.Errorf("no export: %d, %s", status, said)
	}
	for _, call := range [][2]string{{http.MethodGet, "/api/v1/clusters"}, {http.MethodDelete, path}, {http.MethodPut, "/api/v1/clusters"}, {http.MethodPut, "/api/v1/users/pull"}} {
		if a, err := s.ask(t.Context(), call[0], call[1], strings.NewReader("{}"), "Authorization", "Basic "+cluster.NewAuth("pull", faultPassword)); err != nil || a.status != http.StatusForbidden {
			t.Errorf("%s %s: %d, %v", call[0], call[1], a.status, err)
		}
	}
}

// The file may be on a web server that wants a login.
func TestPinCluster_state(t *testing.T) {
	s := newSite(t)
	file := s.export(t, "4.18.1")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "puller" || password != nodePassword {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.ServeFile(w, r, file)
	}))
	defer server.Close()
	args := []string{"pin", "cluster", "--state", server.URL + "/x.json", "--quayRoot", s.root}
	if code, _, said := s.run(t, args...); code != 1 || !strings.Contains(said, "401") {
		t.Errorf("without a login: %d, %s", code, said)
	}
	auth := s.secretFor(t, strings.TrimPrefix(server.URL, "http://"))
	contains(t, s.works(t, append(args, "--authfile", auth)...), "warning: "+clusterID+": release 4.18.1 is not here")
	if _, err := os.Stat(filepath.Join(s.dir, "x.json")); err == nil {
		t.Error("the file was written")
	}
}
