//go:build e2e

package main_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// A looked is a page of the console, and the steps that registry/console/browser/look.mjs takes on it before
// it makes a picture.
type looked struct {
	Name     string     `json:"name"`
	Path     string     `json:"path"`
	User     *string    `json:"user,omitempty"` // "": without a login; nil: admin
	Password string     `json:"password,omitempty"`
	Do       [][]string `json:"do,omitempty"`
}

// emptyImageSet is the beginning of an image set.
const emptyImageSet = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n"

// asUser names the user of a page.
func asUser(user string) *string { return &user }

// look has a Chromium look at pages of a site. The pictures are kept in build/console, below the name.
func (s *site) look(t *testing.T, name string, pages []looked) {
	t.Helper()
	root, _ := moduleRoot(t)
	chromium, err := exec.LookPath("chromium-headless-shell")
	must(t, err)
	order, err := json.Marshal(map[string]any{"base": "https://" + s.address, "chromium": chromium,
		"out": filepath.Join(root, "build", "console", name), "user": "admin", "password": faultPassword, "pages": pages})
	must(t, err)
	c := exec.Command("node", filepath.Join(root, "registry", "console", "browser", "look.mjs"))
	c.Stdin = bytes.NewReader(order)
	code, stdout, stderr := outcome(t, c)
	if code != 0 {
		t.Fatalf("look.mjs ends with %d\n%s", code, stderr)
	}
	var found []struct {
		Page, Variant string
		Problems      []string
	}
	must(t, json.Unmarshal([]byte(stdout), &found))
	if len(found) != 4*len(pages) {
		t.Errorf("%d pictures of %d pages", len(found), len(pages))
	}
	for _, f := range found {
		for _, p := range f.Problems {
			t.Errorf("%s %s, %s: %s", name, f.Page, f.Variant, p)
		}
	}
}

// TestConsole looks at each page of the console in a real browser: filled, empty, and with an error.
func TestConsole(t *testing.T) {
	t.Run("filled", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.look(t, "filled", []looked{
			{Name: "login", Path: "/login", User: asUser("")},
			{Name: "login-error", Path: "/login?next=/users", User: asUser(""), Do: [][]string{{"fill", "#user", "init"}, {"fill", "#password", "wrong-password"},
				{"press", "Enter"}, {"wait", ".pf-v6-c-alert"}}},
			{Name: "overview", Path: "/", Do: [][]string{{"text", "main", "The registry is healthy."}}},
			{Name: "storage", Path: "/storage", Do: [][]string{{"text", "main", "What uses the space"}}},
			{Name: "storage-gc", Path: "/storage/gc", Do: [][]string{{"click", "form[action='/storage/gc/plan'] button"}, {"wait", "#plan p"}}},
			{Name: "storage-damage", Path: "/storage/damage"},
			{Name: "storage-nothing", Path: "/storage?search=nothing-has-this-name"},
			{Name: "storage-forbidden", Path: "/storage", User: asUser("pull"), Password: faultPassword, Do: [][]string{{"text", "main", "This page is for administrators."}}},
			{Name: "users", Path: "/users"},
			{Name: "users-error", Path: "/users", Do: [][]string{{"fill", "#name", "pull"}, {"fill", "#password", "long-enough"},
				{"click", "main button[type=submit]"}, {"wait", "main .pf-m-danger"}}},
			{Name: "user", Path: "/users/pull"},
			{Name: "user-delete", Path: "/users/pull/delete"},
			{Name: "audit", Path: "/audit", Do: [][]string{{"text", "main", "user created"}}},
			{Name: "audit-filter", Path: "/audit?kind=administration&text=user"},
			{Name: "audit-none", Path: "/audit?user=nobody", Do: [][]string{{"text", "main", "Nothing matches"}}},
			{Name: "audit-error", Path: "/audit?from=yesterday", Do: [][]string{{"wait", "main .pf-m-danger"}}},
			{Name: "forbidden", Path: "/users", User: asUser("pull"), Password: faultPassword, Do: [][]string{{"text", "main", "This page is for administrators."}}},
			{Name: "nothing", Path: "/nothing"},
			{Name: "upstreams-empty", Path: "/upstreams", Do: [][]string{{"text", "main", "Nothing is pulled through"}}},
			{Name: "certificates", Path: "/certificates"},
			{Name: "updates-empty", Path: "/updates", Do: [][]string{{"text", "main", "No release is here"}}},
			{Name: "cluster-empty", Path: "/cluster", Do: [][]string{{"text", "main", "Nothing is mirrored yet"}}},
			{Name: "documentation-found", Path: "/documentation?q=upstream"},
			{Name: "documentation-empty", Path: "/documentation?q=zyzzyva"},
			{Name: "documentation", Path: "/documentation", User: asUser("pull"), Password: faultPassword},
			{Name: "document", Path: "/documentation/operate.md"},
		})
	})
	t.Run("sync", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.look(t, "sync", []looked{
			{Name: "sync-empty", Path: "/sync", Do: [][]string{{"text", "main", "No image set yet"}}},
			{Name: "history-empty", Path: "/sync/history", Do: [][]string{{"text", "main", "No run yet"}}},
			{Name: "misses-empty", Path: "/sync/misses", Do: [][]string{{"text", "main", "Clients got what they asked for."}}},
			{Name: "edit-empty", Path: "/sync/edit", Do: [][]string{{"text", "main", "The file is a valid image set."}}},
			{Name: "edit", Path: "/sync/edit", Do: [][]string{
				{"fill", "[name='new:mirror.platform.channels:name']", "stable-4.18"}, {"fill", "[name='new:mirror.platform.channels:minVersion']", "4.18.1"},
				{"click", "text=Add channel"}, {"wait", "[name='at:mirror.platform.channels[0].name']"},
				{"fill", "[name='new:mirror.operators:catalog']", "quay.io/org/index:v4.18"}, {"press", "Enter"}, {"wait", "[name='at:mirror.operators[0].catalog']"},
				{"fill", "[name='new:mirror.operators[0].packages:name']", "web-terminal"}, {"click", "text=Add package"}, {"wait", "[name='at:mirror.operators[0].packages[0].name']"},
				{"text", "#text", "minVersion: 4.18.1\n  operators:\n    - catalog: quay.io/org/index:v4.18\n      packages:\n        - name: web-terminal\n"}}},
			{Name: "edit-read-error", Path: "/sync/edit", Do: [][]string{
				{"fill", "#text", emptyImageSet + "  operators:\n    - catalog: oci:///etc\n"}, {"wait", "[name='find:0']"},
				{"click", "[value='read 0']"}, {"wait", "#found-0 .pf-v6-c-alert.pf-m-danger"}, {"text", "#found-0", "is a path of the host"}}},
			{Name: "edit-plan-error", Path: "/sync/edit", Do: [][]string{{"click", "text=Plan it"}, {"wait", "#draft .pf-v6-c-alert.pf-m-danger"}, {"text", "#draft", "no images to copy"}}},
			{Name: "edit-typed", Path: "/sync/edit", Do: [][]string{{"fill", "#text", emptyImageSet + "  platform:\n    channels:\n      - name: fast-4.17\n"}, {"wait", "[value='fast-4.17']"}}},
			{Name: "edit-versions-none", Path: "/sync/edit", Do: [][]string{
				{"fill", "#text", emptyImageSet + "  platform:\n    channels:\n      - name: fast-4.17\n"}, {"wait", "#versions-of-0"}, {"click", "#versions-of-0"},
				{"text", "#versions", "No graph data is here"}}},
			{Name: "edit-error", Path: "/sync/edit", Do: [][]string{{"fill", "#text", emptyImageSet + "  platform:\n    colour: red\n"}, {"wait", "#checked .pf-m-danger"}, {"text", "#checked", "Line 5:"}}},
			{Name: "set-error", Path: "/sync/set?file=/none", Do: [][]string{{"text", "main", "The configuration has no image set /none."}}},
		})
	})
	t.Run("catalogs", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.look(t, "catalogs", []looked{{Name: "catalogs-empty", Path: "/catalogs", Do: [][]string{{"text", "main", "There is no operator catalog here"}}}})
		s.mirror(t, s.set(t, "set.yaml", "  additionalImages: [{name: 'HOST/redhat/redhat-operator-index:v4.18', targetRepo: originals/index, targetTag: v4.18}]\n"+
			"  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database, channels: [{name: stable}]}]}]\n"))
		s.look(t, "catalogs", []looked{
			{Name: "catalogs", Path: "/catalogs", Do: [][]string{{"text", "main", "redhat/redhat-operator-index:v4.18"}}},
			{Name: "catalog", Path: "/catalogs/originals/index:v4.18", Do: [][]string{{"text", "main", "versions lack images"}}},
			{Name: "catalog-search", Path: "/catalogs/originals/index:v4.18", Do: [][]string{{"fill", "input[name=search]", "logg"}, {"gone", "#found tbody tr:nth-child(2)"}, {"text", "#found", "sample-logging"}}},
			{Name: "catalog-nothing", Path: "/catalogs/originals/index:v4.18?search=none", Do: [][]string{{"text", "main", "No operator has such a name"}}},
			{Name: "catalog-error", Path: "/catalogs/originals/index:v9", Do: [][]string{{"text", "main", "There is no such catalog"}}},
			{Name: "edit-find", Path: "/sync/edit", Do: [][]string{
				{"fill", "#text", emptyImageSet + "  operators:\n    - catalog: " + s.source + "/redhat/redhat-operator-index:v4.18\n"}, {"wait", "[name='find:0']"},
				{"fill", "[name='find:0']", "data"}, {"click", "[value='find 0']"}, {"text", "#found-0", "what was mirrored of the catalog"}}},
			{Name: "operator", Path: "/catalogs/originals/index:v4.18?operator=sample-database", Do: [][]string{{"click", "main summary"}, {"text", "main", "absent from"}}},
		})
	})
	t.Run("runs", lookAtSync)
	t.Run("upstreams", lookAtUpstreams)
	t.Run("damage", lookAtDamage)
	t.Run("pair", lookAtPair)
	t.Run("images", func(t *testing.T) {
		t.Parallel()
		newSite(t).look(t, "images", []looked{{Name: "repositories-empty", Path: "/repositories", Do: [][]string{{"text", "main", "There are no images yet"}}}})
		s := newSiteWithGraph(t, "  platform:\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]\n"+
			"  additionalImages: [{name: 'HOST/samples/oci-multi:v1'}, {name: 'HOST/samples/docker:v1'}]\n")
		s.look(t, "images", []looked{
			{Name: "repositories", Path: "/repositories", Do: [][]string{{"text", "main", "openshift/release-images"}}},
			{Name: "repositories-search", Path: "/repositories", Do: [][]string{{"fill", "input[name=search]", "oci-"}, {"gone", "#found tbody tr:nth-child(2)"}, {"text", "#found", "samples/oci-multi"}}},
			{Name: "repositories-nothing", Path: "/repositories?search=none", Do: [][]string{{"text", "main", "Nothing has such a name"}}},
			{Name: "repository", Path: "/repositories/openshift/release", User: asUser("pull"), Password: faultPassword},
			{Name: "index", Path: "/repositories/samples/oci-multi?image=v1", Do: [][]string{{"text", "main", "linux/arm64"}}},
			{Name: "image", Path: "/repositories/samples/docker?image=v1", Do: [][]string{{"text", "main", "podman pull"}}},
			{Name: "image-signed", Path: "/repositories/openshift/release-images?image=4.18.1-x86_64", Do: [][]string{{"wait", "#signatures table"}, {"text", "main", "policy openshift"}}},
			{Name: "signatures", Path: "/images/signatures?repository=openshift/release-images&image=4.18.1-x86_64", User: asUser("pull"), Password: faultPassword},
			{Name: "signatures-none", Path: "/images/signatures?repository=samples/docker&image=v1", Do: [][]string{{"text", "main", "Neither a signature"}}},
			{Name: "image-error", Path: "/repositories/samples/docker?image=v9", Do: [][]string{{"text", "main", "has no tag v9"}}},
			{Name: "image-delete", Path: "/repositories/samples/oci-multi?image=v1", Do: [][]string{{"click", "text=Delete the image"}, {"wait", "#needs ul"}, {"text", "main", "What stays"}}},
			{Name: "image-untag", Path: "/images/delete?repository=samples/oci-multi&image=v1", Do: [][]string{{"wait", "#needs ul"}}},
			{Name: "image-needs", Path: "/images/needs?repository=samples/oci-multi&image=v1"},
			{Name: "edit-versions-absent", Path: "/sync/edit", Do: [][]string{
				{"fill", "#text", emptyImageSet + "  platform:\n    channels:\n      - name: stable-4.17\n"}, {"wait", "#versions-of-0"}, {"click", "#versions-of-0"},
				{"text", "#versions", "No release of the channel is here"}, {"wait", "#versions svg"}}},
			{Name: "image-readonly", Path: "/images/delete?repository=samples/oci-multi&image=v1", User: asUser("pull"), Password: faultPassword, Do: [][]string{{"text", "main", "may change images"}}},
		})
	})
	t.Run("updates", func(t *testing.T) {
		t.Parallel()
		s := newSiteWithGraph(t, "  platform:\n    architectures: [amd64, multi]\n    channels: [{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.1, full: true}, {name: candidate-4.18, minVersion: 4.18.4, maxVersion: 4.18.4}]\n")
		const channel = "/updates/channel?channel=eus-4.18"
		s.look(t, "updates", []looked{
			{Name: "updates", Path: "/updates", Do: [][]string{{"text", "main", "candidate-4.18"}}},
			{Name: "channel", Path: channel, Do: [][]string{{"wait", ".console-graph svg"}, {"text", "#main", "4.18.2 is not here"}}},
			{Name: "channel-from", Path: channel, Do: [][]string{{"click", "main td a"}, {"path", "/updates/channel"}, {"wait", ".console-graph-box.way"}}},
			{Name: "channel-way", Path: channel + "&from=4.16.2&to=4.18.1", Do: [][]string{{"text", "#main", "recommended"}}},
			{Name: "channel-error", Path: channel + "&from=4.16.9", Do: [][]string{{"text", "#main", "4.16.9 is not here in channel eus-4.18"}}},
			{Name: "edit-versions", Path: "/sync/edit", Do: [][]string{
				{"fill", "#text", emptyImageSet + "  platform:\n    channels:\n      - name: eus-4.18\n"}, {"wait", "#versions-of-0"}, {"click", "#versions-of-0"},
				{"click", "#versions [value='from 0 4.16.2'][tabindex]"}, {"wait", "[value='4.16.2']"}, {"click", "[id='to-4.18.1']"}, {"wait", "#way"},
				{"text", "#text", "minVersion: 4.16.2\n        maxVersion: 4.18.1\n"}}},
			{Name: "channel-none", Path: "/updates/channel?channel=stable-4.99"},
			{Name: "ready-empty", Path: "/updates/ready?from=4.16.2&to=4.18.1&channel=eus-4.18&arch=amd64", Do: [][]string{{"text", "#main", "No verdict yet"}}},
			{Name: "clusters-empty", Path: "/updates/clusters", Do: [][]string{{"text", "#main", "No cluster is attached"}}},
		})
		s.pins(t, "eus-4.18", "4.16.2")
		const judge, missing = "form.console-form button.pf-m-primary", "text=Image set of what is missing"
		s.look(t, "updates", []looked{
			{Name: "ready", Path: "/updates/ready?from=4.16.2&to=4.18.1&channel=eus-4.18&arch=amd64", Do: [][]string{{"click", judge}, {"wait", "#last"}, {"wait", "#verdict table"}}},
			{Name: "ready-error", Path: "/updates/ready?to=4.18", Do: [][]string{{"click", judge}, {"wait", "text=is not a release"}}},
			{Name: "ready-missing", Path: "/updates/ready?to=4.99.1", Do: [][]string{{"click", judge}, {"wait", missing}}},
			{Name: "ready-set", Path: "/updates/ready", Do: [][]string{{"click", missing}, {"text", "#main", "minVersion: 4.99.1"}}},
			{Name: "clusters", Path: "/updates/clusters", Do: [][]string{{"text", "#main", "prod"}}},
			{Name: "detach", Path: "/updates/clusters", Do: [][]string{{"click", "main td a.pf-m-danger"}, {"text", "#main", "Detach prod?"}}},
			{Name: "detach-error", Path: "/updates/clusters/none/detach"},
		})
	})
}
