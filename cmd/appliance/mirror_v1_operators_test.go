package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// channels returns the channels of a catalog at the destination, and their bundles.
func (s *mirrorSetup) channels(t *testing.T, repository, tag string) []string {
	t.Helper()
	all := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true}, nil
	})
	t.Cleanup(all.Close)
	source, err := all.Repository(s.destination, repository)
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Find(t.Context(), source, tag)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := c.Extract(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	index, err := operator.Scan(t.Context(), os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range whole.Packages {
		for _, c := range p.Channels {
			line := p.Name + " " + c.Name + ":"
			for _, e := range c.Entries {
				line += strings.TrimPrefix(e.Name, p.Name+".") + " "
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// Without versions the head of each channel is mirrored, of the packages that are listed or of all.
//
// Spec: oc-mirror 9.6, 9.7.
func TestMirrorV1_operators(t *testing.T) {
	for name, tc := range map[string]struct{ packages, want string }{
		"heads of all": {"", "sample-database fast:v2.0.0 \nsample-database stable:v1.2.0 \nsample-logging stable-5.8:v5.8.1 \nsample-logging stable-5.9:v5.9.0 "},
		"heads of one": {"    packages: [{name: sample-database}]\n", "sample-database fast:v2.0.0 \nsample-database stable:v1.2.0 "},
		"from a bundle": {"    packages: [{name: sample-database, channels: [{name: stable, minBundle: sample-database.v1.1.0}]}]\n",
			"sample-database stable:v1.1.0 v1.2.0 "},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMirrorSetup(t)
			t.Chdir(t.TempDir())
			file := s.writeV1(t, "mirror:\n  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n"+tc.packages)
			code, stdout, stderr := command("mirror", "-c", file, "docker://"+s.destination+"/ns", "--source-use-http", "--dest-use-http")
			if code != 0 {
				t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
			}
			if got := strings.Join(s.channels(t, "ns/redhat/redhat-operator-index", "v4.18"), "\n"); got != tc.want {
				t.Errorf("the catalog has\n%s\nwant\n%s", got, tc.want)
			}
			read := func(name string) string {
				t.Helper()
				found, err := filepath.Glob("oc-mirror-workspace/results-*/" + name)
				if err != nil || len(found) != 1 {
					t.Fatalf("%s: %v, %v", name, found, err)
				}
				text, err := os.ReadFile(found[0])
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			says(t, read("catalogSource-cs-redhat-operator-index.yaml"), "name: cs-redhat-operator-index\n", "image: "+s.destination+"/ns/redhat/redhat-operator-index:v4.18\n")
			says(t, read("imageContentSourcePolicy.yaml"), "name: operator-0", "- "+s.destination+"/ns/operators\n", "source: "+s.source+"/operators\n")
			bundle := "=" + s.destination + "/ns/operators/sample-database-bundle:"
			want := strings.Count(tc.want, "v1.") + strings.Count(tc.want, "v2.")
			mapping := read("mapping.txt")
			if strings.Count(mapping, bundle) != want {
				t.Errorf("mapping.txt has not %d bundles of the database:\n%s", want, mapping)
			}
			for line := range strings.Lines(mapping) {
				source, destination, _ := strings.Cut(strings.TrimSpace(line), "=")
				h := fnv.New32a()
				io.WriteString(h, source)
				if tag := fmt.Sprintf(":%x", h.Sum32()); strings.Contains(source, "/operators/") && !strings.HasSuffix(destination, tag) {
					t.Errorf("%s does not have the tag %s", line, tag)
				}
			}
		})
	}
}

// An archive has the tags of version 2, and what is mirrored from it those of version 1.
//
// Spec: oc-mirror 9.1, 9.7.
func TestMirrorV1_operatorsThroughAnArchive(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	file := s.writeV1(t, "mirror:\n  operators:\n  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-logging}]}\n")
	for _, line := range []string{"file://disk --source-use-http", "docker://" + s.destination + " --from disk --dest-use-http"} {
		if code, stdout, stderr := command(append([]string{"mirror", "-c", file}, strings.Fields(line)...)...); code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", line, code, stdout, stderr)
		}
	}
	if got := strings.Join(s.channels(t, "redhat/redhat-operator-index", "v4.18"), "\n"); got != "sample-logging stable-5.8:v5.8.1 \nsample-logging stable-5.9:v5.9.0 " {
		t.Errorf("the catalog has\n%s", got)
	}
	response, err := http.Get("http://" + s.destination + "/v2/operators/sample-logging-bundle/tags/list")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !regexp.MustCompile(`"tags":\["[0-9a-f]{1,8}","[0-9a-f]{1,8}"\]`).Match(body) {
		t.Errorf("the bundles have %s, %v", body, err)
	}
}
