package main_test

import (
	"encoding/json"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// The history lists as much as is asked for, and the last run is found behind any number of changes of views.
func TestHistory_limits(t *testing.T) {
	s := newSite(t)
	s.configure(t, func(c *config.Config) {
		for _, name := range []string{"views/all:v1", "views/two:v1"} {
			c.Catalogs = append(c.Catalogs, config.Catalog{Name: name, Original: "originals/index:v4.18", Keep: config.DefaultKeep})
		}
	})
	s.works(t, s.by("ws", "mirror", "-c", s.set(t, "a.yaml", "  additionalImages: [{name: 'HOST/redhat/redhat-operator-index:v4.18', targetRepo: originals/index, targetTag: v4.18}]\n"))...)
	_, err := s.admin.Catalogs(t.Context(), nil)
	must(t, err)
	list := func(args ...string) (all []api.PastSync, stderr string) {
		t.Helper()
		code, stdout, stderr := s.run(t, append([]string{"mirror", "history", "docker://" + s.address, "--dest-creds", "admin:" + faultPassword, "-o", "json"}, args...)...)
		if code != 0 || json.Unmarshal([]byte(stdout), &all) != nil {
			t.Errorf("%q: exit code %d\n%s%s", args, code, stdout, stderr)
		}
		return all, stderr
	}
	whole, stderr := list()
	if len(whole) != 3 || whole[0].View == "" || whole[1].View == "" || stderr != "" {
		t.Fatalf("the history is %+v, %s", whole, stderr)
	}
	for args, want := range map[[2]string]int{{"--limit", "1"}: 1, {"--limit", "2"}: 2, {"--limit", "3"}: 3, {"--limit", "0"}: 3} {
		all, stderr := list(args[:]...)
		if len(all) != want || all[0] != whole[0] || (stderr == "") != (want == 3) {
			t.Errorf("%q: %+v, %s", args, all, stderr)
		}
	}
	if all, _ := list("--without-views", "--limit", "1"); len(all) != 1 || all[0] != whole[2] {
		t.Errorf("without views: %+v", all)
	}
	for _, args := range [][]string{{"docker://" + s.address, "--limit", "-1"}, {"--workspace", "file://" + s.dir, "--limit", "1"}} {
		if code, _, stderr := s.run(t, append([]string{"mirror", "history", "--dest-creds", "admin:" + faultPassword}, args...)...); code == 0 {
			t.Errorf("%q is taken: %s", args, stderr)
		}
	}
	contains(t, s.works(t, "mirror", "rollback", "docker://"+s.address, "--dest-creds", "admin:"+faultPassword), "originals/index:v4.18: no tag, as before")
}
