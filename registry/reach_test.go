package registry_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// read reads a catalog in the background, and returns what came of it.
func (r *running) read(t *testing.T, catalog string) api.ReachedCatalog {
	t.Helper()
	before, err := r.admin.Reached(t.Context())
	must(t, err)
	must(t, r.admin.BeginReadCatalog(t.Context(), api.CatalogRead{Catalog: catalog}))
	var one api.ReachedCatalog
	until(t, "the reading of "+catalog, func() bool {
		now, err := r.admin.Reached(t.Context())
		must(t, err)
		if now.Running != nil || len(now.Read) == 0 || now.Read[0].Catalog != catalog {
			return false
		}
		one = now.Read[0]
		return len(before.Read) == 0 || one.Error != nil || before.Read[0].Read != one.Read
	})
	return one
}

// What a catalog of another registry offers is read, and nothing is mirrored.
func TestReach(t *testing.T) {
	source := newSample(t)
	r := start(t)
	catalog := source + "/redhat/redhat-operator-index:v4.18"
	search := api.ReachedPackagesRequest{Catalog: catalog, Page: api.Page{Search: "DATA"}}
	if _, err := r.admin.ReachedPackages(t.Context(), search); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("before it is read: %v", err)
	}
	told := api.CatalogReading{}
	one, err := r.admin.ReadCatalog(t.Context(), api.CatalogRead{Catalog: catalog}, func(now api.CatalogReading) { told = now })
	must(t, err)
	if one.Packages < 2 || one.Digest == "" || one.Read.IsZero() || one.Error != nil || told.Catalog != catalog {
		t.Errorf("it was read as %+v, after %+v", one, told)
	}
	page, err := r.admin.ReachedPackages(t.Context(), search)
	must(t, err)
	if page.Count != one.Packages || len(page.Packages) != 1 || page.Digest != one.Digest {
		t.Fatalf("what is found: %+v", page)
	}
	if p := page.Packages[0]; p.Name != "sample-database" || len(p.Channels) == 0 || len(p.Channels[0].Versions) == 0 || p.DefaultChannel == "" || p.Lacking != nil {
		t.Errorf("the package is %+v", p)
	}
	if held, err := r.admin.HeldCatalogs(t.Context()); err != nil || len(held) > 0 {
		t.Errorf("it is held: %+v, %v", held, err)
	}
	for _, dir := range []string{".reading", ".catalogs.reached"} {
		if _, err := os.Stat(r.cfg.Database + dir); !os.IsNotExist(err) {
			t.Errorf("%s stays: %v", dir, err)
		}
	}
	if again := r.read(t, catalog); again.Digest != one.Digest || !again.Read.After(one.Read) {
		t.Errorf("the second time: %+v", again)
	}
	r.catalog(t, "team/index:v1")
	_, err = r.admin.Packages(t.Context(), api.PackagesRequest{Place: api.Place{Repository: "team/index", Reference: "v1"}})
	must(t, err)
	if _, err := os.Stat(filepath.Join(r.cfg.Database+".catalogs.listings", one.Digest.Encoded())); err != nil {
		t.Errorf("what was read is not kept once another catalog is listed: %v", err)
	}
}

// A name is checked as a run checks it: no file of the host is read, and no login gets into a log.
func TestReach_names(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1")
	must(t, os.WriteFile(file, []byte(strings.Replace(emptySet, "{}", "{operators: [{catalog: 'oci:///etc'}]}", 1)), 0o600))
	for name, text := range map[string]string{
		"oci:///etc": "is a path of the host", "dir:///etc": "is a path of the host", "file:///etc/passwd": "transport", "https://h.test/a": "transport",
		"": "between 1 and", strings.Repeat("a", 1001): "between 1 and", "user:secret@h.test/a:v1": "is not a digest",
		hostile: "", "{{.}}": "", "h.test/../../etc:v1": "is not a repository name", "\"}, {\"catalog\": \"oci:///etc": "", "a\nb": "", "quay.io/a/b:v1 --x": "",
	} {
		for _, of := range []string{"", file} {
			_, err := r.admin.ReadCatalog(t.Context(), api.CatalogRead{Catalog: name, ImageSet: of}, nil)
			refused(t, err, text)
		}
	}
	_, err := r.admin.ReadCatalog(t.Context(), api.CatalogRead{Catalog: "h.test/a:v1", ImageSet: "/etc/passwd"}, nil)
	refused(t, err, "names no image set")
	if strings.Contains(r.log.String(), "secret") {
		t.Error("the log has a login")
	}
}

// The switch and the user end what waits for a registry, and one that cannot be reached is an error that tells so.
func TestReach_unreachable(t *testing.T) {
	source := newSample(t)
	r := start(t)
	good, absent := source+"/redhat/redhat-operator-index:v4.18", source+"/redhat/absent:v1"
	if one := r.read(t, absent); one.Error == nil || one.Digest != "" || !strings.Contains(one.Error.Problem, "absent") {
		t.Errorf("one that is absent: %+v", one)
	}
	if one := r.read(t, "127.0.0.1:1/a/b:v1"); one.Error == nil || !strings.Contains(one.Error.Problem, "127.0.0.1:1") {
		t.Errorf("a registry that refuses: %+v", one)
	}
	if one := r.read(t, source+"/samples/docker:v1"); one.Error == nil || !strings.Contains(one.Error.Problem, "not an operator catalog") {
		t.Errorf("an image: %+v", one)
	}
	r.read(t, good)

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	mute := silent.Addr().String() + "/a/b:v1"
	begin := func() {
		t.Helper()
		must(t, r.admin.BeginReadCatalog(t.Context(), api.CatalogRead{Catalog: mute}))
		until(t, "the reading begins", func() bool { return r.reading(t) })
	}
	begin()
	must(t, r.admin.StopReading(t.Context()))
	until(t, "the end", func() bool { return !r.reading(t) })
	begin()
	_, err = r.admin.SetOffline(t.Context(), true)
	must(t, err)
	until(t, "the end", func() bool { return !r.reading(t) })
	all, err := r.admin.Reached(t.Context())
	must(t, err)
	if all.Read[0].Catalog != mute || all.Read[0].Error == nil || !strings.Contains(all.Read[0].Error.Problem, "is offline") {
		t.Errorf("after the switch: %+v", all.Read[0])
	}
	if one := r.read(t, good); one.Error == nil || !strings.Contains(one.Error.Problem, "is offline") || one.Digest == "" {
		t.Errorf("while it is offline: %+v", one)
	}
	if page, err := r.admin.ReachedPackages(t.Context(), api.ReachedPackagesRequest{Catalog: good}); err != nil || page.Count == 0 {
		t.Errorf("what was read before: %+v %v", page, err)
	}
}

func (r *running) reading(t *testing.T) bool {
	t.Helper()
	all, err := r.admin.Reached(t.Context())
	must(t, err)
	return all.Running != nil
}

func TestReach_roles(t *testing.T) {
	r := start(t)
	for _, user := range []string{"pull", "push"} {
		for _, at := range []string{"/api/v1/reached-catalogs", "/api/v1/reached-catalogs/packages"} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
				if status, _ := r.as(t, user, method, at); status != http.StatusForbidden {
					t.Errorf("%s: %s %s is answered with %d", user, method, at, status)
				}
			}
		}
	}
}
