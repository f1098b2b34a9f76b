package sample_test

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/testdata"
)

var update = flag.Bool("update", false, "write the digests of the generated content into testdata/imageset/sample.yaml")

// runHost is the address of the sample upstream in `make run`.
const runHost = "127.0.0.1:5055"

// TestSampleImageSet checks that the digests, tags, channel and versions of
// testdata/imageset/sample.yaml exist. The tag of a digest is in the comment behind it.
func TestSampleImageSet(t *testing.T) {
	c := newContent(t, runHost)
	pinned := regexp.MustCompile(`(?m)- name: ` + regexp.QuoteMeta(runHost) + `/([^@\s]+)@(sha256:\S+) # (\S+)$`)

	if *update {
		const path = "../../../testdata/imageset/sample.yaml"
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := pinned.ReplaceAllStringFunc(string(old), func(line string) string {
			p := pinned.FindStringSubmatch(line)
			m, _ := c.Manifest(p[1], p[3])
			return strings.Replace(line, p[2], m.Digest.String(), 1)
		})
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return // the embedded file is older
	}

	text, err := testdata.FS.ReadFile("imageset/sample.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pins := pinned.FindAllStringSubmatch(string(text), -1)
	if len(pins) == 0 {
		t.Error("no image is given by digest")
	}
	for _, p := range pins {
		if m, _ := c.Manifest(p[1], p[3]); m.Digest.String() != p[2] {
			t.Errorf("%s:%s is %s, the file says %s; -update writes it", p[1], p[3], m.Digest, p[2])
		}
	}

	var config struct {
		Kind   string
		Mirror struct {
			Platform struct {
				Architectures []string
				Channels      []struct{ Name, MinVersion, MaxVersion string }
			}
			AdditionalImages []struct{ Name string }
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	for _, i := range config.Mirror.AdditionalImages {
		repo, ref, ok := strings.Cut(strings.TrimPrefix(i.Name, runHost+"/"), "@")
		if !ok {
			repo, ref, _ = strings.Cut(repo, ":")
		}
		if _, ok := c.Manifest(repo, ref); !ok || !strings.HasPrefix(i.Name, runHost+"/") {
			t.Errorf("%s does not exist", i.Name)
		}
	}
	for _, ch := range config.Mirror.Platform.Channels {
		versions := nodeVersions(c.Graph(ch.Name, config.Mirror.Platform.Architectures[0]))
		if !slices.Contains(versions, ch.MinVersion) || !slices.Contains(versions, ch.MaxVersion) {
			t.Errorf("channel %s goes from %s to %s, the graph has %v", ch.Name, ch.MinVersion, ch.MaxVersion, versions)
		}
	}
	if len(config.Mirror.Platform.Channels) == 0 || len(config.Mirror.AdditionalImages) == 0 {
		t.Error("the file has no channel or no additional image")
	}
}
