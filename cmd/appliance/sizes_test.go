package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// What a plan copies, and what is there, is known before anything is: in all, by catalog, by operator.
func TestMirror_sizesOfAPlan(t *testing.T) {
	s := newSite(t)
	const operators = "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-database}"
	set := s.set(t, "imageset.yaml", operators+"]\n")
	args := []string{"mirror", "-c", set, "docker://" + s.address, "--workspace", "file://" + s.dir + "/ws",
		"--src-tls-verify=false", "--dest-creds", "admin:" + faultPassword}
	s.works(t, args...)
	s.set(t, "imageset.yaml", operators+", {name: sample-logging}]\n")

	var of plan.Plan
	for line := range strings.Lines(s.works(t, append(args, "--dry-run", "-o", "json")...)) {
		must(t, json.Unmarshal([]byte(line), &of)) // the last one is the plan
	}
	if len(of.Catalogs) != 1 || len(of.Catalogs[0].Packages) != 2 || of.Held == 0 || of.Missing == 0 || of.Held+of.Missing != of.Bytes {
		t.Fatalf("the plan has %d bytes, %d held, %d missing, by catalog %+v", of.Bytes, of.Held, of.Missing, of.Catalogs)
	}
	index := of.Catalogs[0]
	if index.Bytes != of.Bytes || index.Images != len(of.Images) || index.Missing != of.Missing {
		t.Errorf("of %d bytes, the only catalog has %+v", of.Bytes, index)
	}
	for _, one := range index.Packages {
		if new := one.Package == "sample-logging"; new != (one.Missing > 0) || one.Held == 0 || one.Images < 5 {
			t.Errorf("operator %+v", one)
		}
	}

	text := s.works(t, append(args, "--dry-run")...)
	run := s.works(t, args...)
	for _, want := range []string{
		" held, ", "catalog " + s.source + "/redhat/redhat-operator-index:v4.18: ", "  operator sample-logging: 5 images, ", "  operator sample-database: ", "held, 0 B to copy\n",
	} {
		if !strings.Contains(text, want) || !strings.Contains(run, want) {
			t.Errorf("%q is not printed by\n%s\nor by\n%s", want, text, run)
		}
	}
}

// The next archive leaves out what the one before it has, but for its catalogs.
func TestMirror_sizesOfTheNextArchive(t *testing.T) {
	s := newSite(t)
	set := s.set(t, "imageset.yaml", "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-database}]\n")
	args := []string{"mirror", "-c", set, "file://" + s.dir + "/archive", "--src-tls-verify=false"}
	s.works(t, args...)
	var of plan.Plan
	for line := range strings.Lines(s.works(t, append(args, "--dry-run", "-o", "json")...)) {
		must(t, json.Unmarshal([]byte(line), &of))
	}
	if len(of.Catalogs) != 1 || of.Catalogs[0].Missing == 0 || of.Catalogs[0].Missing != of.Missing || of.Held == 0 {
		t.Errorf("%d bytes are held, %d missing, by catalog %+v", of.Held, of.Missing, of.Catalogs)
	}
}

// What a cluster loses by an image that fails on its way is printed as what it loses by one that fails
// before.
func TestMirror_warnsOfWhatFailsOnItsWay(t *testing.T) {
	s := newSite(t)
	content := s.upstream.Config.Handler
	s.upstream.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/operators/sample-logging-bundle/blobs/") {
			http.NotFound(w, r)
			return
		}
		content.ServeHTTP(w, r)
	})
	set := s.set(t, "imageset.yaml", "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-database}, {name: sample-logging}, {name: sample-loging}]\n")
	code, out, _ := s.run(t, "mirror", "-c", set, "docker://"+s.address, "--workspace", "file://"+s.dir+"/ws",
		"--src-tls-verify=false", "--dest-creds", "admin:"+faultPassword, "--retry-times", "0")
	for _, want := range []string{`package "sample-logging" is left out`, `"sample-loging" does not exist`} {
		if code != 4 || strings.Count(out, want) != 1 {
			t.Errorf("exit code %d, and %q is not printed once:\n%s", code, want, out)
		}
	}
}
