package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// specification has the numbered sections of the description of oc-mirror's behaviour, and of that
// of signatures, that this program follows. The description is not in the repository. The comment
// of a test that shows a section has its number, in a last paragraph of one line:
//
//	// Spec: oc-mirror 4.2, 4.3.
var specification = map[string]string{
	"oc-mirror 1.1":  "the program, its commands and its lines",
	"oc-mirror 1.2":  "three ways: to disk, from disk, from mirror to mirror",
	"oc-mirror 1.3":  "flags of all commands",
	"oc-mirror 1.4":  "flags of mirror",
	"oc-mirror 1.5":  "flags of delete",
	"oc-mirror 1.6":  "mirror: what is refused, in which words and order; the access check",
	"oc-mirror 1.7":  "delete: what is refused, in which words",
	"oc-mirror 1.8":  "list releases",
	"oc-mirror 1.9":  "environment variables",
	"oc-mirror 1.10": "exit codes",
	"oc-mirror 1.11": "flags of older versions",
	"oc-mirror 2.1":  "reading a configuration strictly",
	"oc-mirror 2.2":  "ImageSetConfiguration",
	"oc-mirror 2.3":  "DeleteImageSetConfiguration",
	"oc-mirror 2.4":  "configurations of version 1",
	"oc-mirror 2.5":  "pinned configurations",
	"oc-mirror 3.1":  "the files of working-dir",
	"oc-mirror 3.2":  "the order of a run; nothing to mirror",
	"oc-mirror 3.3":  "copying: architectures, retries, the lines of results",
	"oc-mirror 3.4":  "which failures stop what",
	"oc-mirror 3.6":  "dry runs",
	"oc-mirror 3.7":  "OpenPGP signatures of releases",
	"oc-mirror 3.8":  "attachments, and the host's policy",
	"oc-mirror 3.9":  "types of images",
	"oc-mirror 3.10": "delete",
	"oc-mirror 4.1":  "asking the update service",
	"oc-mirror 4.2":  "the versions of a channel",
	"oc-mirror 4.3":  "the way across channels",
	"oc-mirror 4.4":  "architectures and platforms of releases",
	"oc-mirror 4.5":  "the cause of a channel's failure",
	"oc-mirror 4.6":  "one release by reference",
	"oc-mirror 4.7":  "what is read of a payload",
	"oc-mirror 4.8":  "names of releases and components",
	"oc-mirror 4.9":  "the graph image",
	"oc-mirror 4.10": "UpdateService",
	"oc-mirror 5.1":  "the catalog in an image",
	"oc-mirror 5.2":  "what an entry leaves of a catalog",
	"oc-mirror 5.3":  "ranges: one head is kept",
	"oc-mirror 5.4":  "images of bundles; bundles that lack one",
	"oc-mirror 5.5":  "destinations of bundles and catalogs",
	"oc-mirror 5.6":  "the key of a filter",
	"oc-mirror 5.7":  "the image of a filtered catalog",
	"oc-mirror 5.8":  "CatalogSource and ClusterCatalog",
	"oc-mirror 6.1":  "reading references",
	"oc-mirror 6.2":  "names of additional images",
	"oc-mirror 6.3":  "blocked images",
	"oc-mirror 6.4":  "paths with few components",
	"oc-mirror 6.5":  "Helm charts",
	"oc-mirror 6.6":  "samples are accepted",
	"oc-mirror 6.7":  "some platforms of a manifest list",
	"oc-mirror 7.1":  "the files for the cluster",
	"oc-mirror 7.2":  "ImageDigestMirrorSet and ImageTagMirrorSet",
	"oc-mirror 7.5":  "the ConfigMap of signatures",
	"oc-mirror 8.1":  "the files of an archive",
	"oc-mirror 8.2":  "the entries of an archive",
	"oc-mirror 8.3":  "chunks",
	"oc-mirror 8.4":  "history: what an increment leaves out",
	"oc-mirror 8.5":  "importing an archive",
	"oc-mirror 8.6":  "an archive that oc-mirror imports",
	"oc-mirror 8.7":  "an archive that oc-mirror wrote",
	"oc-mirror 9.1":  "commands and flags of version 1",
	"oc-mirror 9.2":  "the workspace of version 1",
	"oc-mirror 9.3":  "archives of version 1",
	"oc-mirror 9.4":  "metadata of version 1",
	"oc-mirror 9.5":  "pruning of version 1",
	"oc-mirror 9.6":  "results of version 1",
	"oc-mirror 9.7":  "names that differ between versions",
	"signatures 1":   "where the two kinds are, and where a mirror has them",
	"signatures 2":   "the policy in a payload",
	"signatures 3":   "what a node asks for, and what counts as not signed",
	"signatures 4":   "what is copied, archived, deleted and verified with an image",
}

// specLine is where a test names sections, and the test.
var specLine = regexp.MustCompile(`(?m)^// Spec: (oc-mirror|signatures) ([0-9., ]+)\.\nfunc Test`)

func TestSpecification_eachSectionIsNamedByATest(t *testing.T) {
	named := map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := specLine.FindAllStringSubmatch(string(text), -1)
		if n := strings.Count(string(text), "\n// Spec: "); n != len(found) {
			t.Errorf("%s: %d of %d lines about the specification are not above a test, or are of another form", path, n-len(found), n)
		}
		for _, m := range found {
			for number := range strings.SplitSeq(m[2], ", ") {
				section := m[1] + " " + number
				if specification[section] == "" {
					t.Errorf("%s: there is no section %s", path, section)
				}
				named[section] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range slices.Sorted(maps.Keys(specification)) {
		if !named[section] {
			t.Errorf("no test names %s, %s", section, specification[section])
		}
	}
}
