package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/store"
)

// pruner deletes from a store.
type pruner struct {
	*store.Store
	noTags bool // no tag can be deleted alone
}

func missing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fs.ErrNotExist
	}
	return err
}

func (p pruner) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	m, err := p.Manifests.ByTag(ctx, repo, ref)
	if strings.Contains(ref, ":") {
		m, err = p.Manifests.Get(ctx, repo, digest.Digest(ref))
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}, m.Body, missing(err)
}

func (p pruner) Blob(context.Context, string, digest.Digest) (io.ReadCloser, int64, error) {
	return nil, 0, errors.New("the workspace has the documents")
}

func (p pruner) Delete(ctx context.Context, repo, ref string) error {
	if strings.Contains(ref, ":") {
		return missing(p.Manifests.Delete(ctx, repo, digest.Digest(ref)))
	}
	if p.noTags {
		return errors.New("405 Method Not Allowed")
	}
	return missing(p.Tags.Delete(ctx, repo, ref))
}

// deletion is the options for a list below delete:.
func (s *setup) deletion(t *testing.T, list string) mirror.Options {
	t.Helper()
	o := s.options(t, additional)
	file := filepath.Join(t.TempDir(), "disc.yaml")
	text := "kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\ndelete:\n" + strings.ReplaceAll(list, "HOST", s.host)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.Config, err = imageset.LoadDelete(file); err != nil {
		t.Fatal(err)
	}
	return o
}

func (s *setup) mirrored(t *testing.T, config, name string) {
	t.Helper()
	if _, err := mirror.Run(t.Context(), s.options(t, config, s.beginning, func(o *mirror.Options) {
		o.Config.File = name
		o.Now = func() time.Time { return time.Date(2026, 11, 20, 22, int(name[0]-'a'), 0, 0, time.UTC) } // each has its report
	})); err != nil {
		t.Fatal(err)
	}
}

const release2 = `  platform:
    channels:
    - {name: stable-4.18, minVersion: 4.18.2, maxVersion: 4.18.2}
`

// Spec: oc-mirror 3.10.
func TestDelete_additional(t *testing.T) {
	s := newSetup(t, additional)
	s.mirrored(t, additional, "a.yaml")
	o := s.deletion(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n  - name: HOST/samples/absent:v1\n")
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{ID: "x"})
	if err != nil || len(d.Items) != 2 || d.Absent != 1 || d.Bytes == 0 || !strings.HasSuffix(d.File, "working-dir/delete/delete-images-x.yaml") {
		t.Fatalf("%+v, %v", d, err)
	}
	want := "apiVersion: mirror.openshift.io/v2alpha1\nitems:\n" +
		"- imageName: " + s.host + "/samples/absent:v1\n  imageReference: docker://mirror.example.com:8443/samples/absent:v1\n  type: generic\n" +
		"- imageName: " + s.host + "/samples/docker:v1\n  imageReference: docker://mirror.example.com:8443/samples/docker:v1\n  type: generic\n" +
		"kind: DeleteImageList\n"
	if got := s.read(t, "delete", "delete-images-x.yaml"); got != want {
		t.Errorf("the list is\n%s", got)
	}
	if got := s.read(t, "delete", "delete-imageset-config-x.yaml"); got != string(o.Config.Text) {
		t.Errorf("the configuration is\n%s", got)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	for range 2 { // what is not there is done
		done, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false)
		if err != nil || len(done.Deleted)+len(done.Absent) != 2 {
			t.Errorf("%+v, %v", done, err)
		}
	}
	s.lacks(t, "samples/docker", "v1")
	s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))
}

// Two releases share most of their components: those of the one that stays are whole.
//
// Spec: oc-mirror 3.10.
func TestDelete_releaseThatSharesComponents(t *testing.T) {
	s := newSetup(t, twoReleases)
	s.mirrored(t, twoReleases, "a.yaml")
	o := s.deletion(t, release2)
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil {
		t.Fatal(err)
	}
	done, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false)
	if err != nil || len(done.Kept) == 0 || len(done.Deleted) == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, tag := range s.tags(t, "openshift/release") {
		if strings.HasPrefix(tag, "4.18.2-") {
			t.Errorf("%s is still there", tag)
		}
	}
	s.lacks(t, "openshift/release-images", "4.18.2-x86_64")
	r, _ := s.Release("4.18.1", "amd64")
	for name := range r.Components {
		_, want := s.component(t, "4.18.1", name)
		s.holds(t, "openshift/release", "4.18.1-x86_64-"+name, want)
	}
}

// Spec: oc-mirror 3.10.
func TestDelete_refused(t *testing.T) {
	s := newSetup(t, additional)
	s.mirrored(t, additional, "a.yaml")
	s.mirrored(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n", "b.yaml")
	o := s.deletion(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n")
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false); err == nil || !strings.Contains(err.Error(), "samples/docker:v1 (a.yaml, b.yaml)") {
		t.Errorf("an image of two image sets: %v", err)
	}
	other := o
	other.Registry = "other.example.com"
	if _, err := mirror.Delete(t.Context(), other, pruner{Store: s.store}, d.File, true); err == nil || !strings.Contains(err.Error(), "does not match values found in the delete-images yaml file") {
		t.Errorf("a list for another registry: %v", err)
	}
	other = o
	other.Prefix = "ns"
	if _, err := mirror.Delete(t.Context(), other, pruner{Store: s.store}, d.File, true); err == nil {
		t.Error("a list for another path is deleted")
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	if _, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{ID: "../x"}); err == nil {
		t.Error("an id that leads elsewhere is taken")
	}
	if _, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, filepath.Join(s.workspace, "none.yaml"), false); err == nil || !strings.HasPrefix(err.Error(), "file not found ") {
		t.Errorf("a list that is not there: %v", err)
	}
	if _, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, true); err != nil {
		t.Errorf("by force: %v", err)
	}
	s.lacks(t, "samples/docker", "v1")
}

// Where a tag cannot be deleted alone, content that another image needs stays, and the tag too.
func TestDelete_tagThatStays(t *testing.T) {
	s := newSetup(t, additional)
	two := "  additionalImages:\n  - name: HOST/samples/docker:v1\n  - {name: HOST/samples/docker:v1, targetTag: again}\n"
	s.mirrored(t, two, "a.yaml")
	o := s.deletion(t, "  additionalImages:\n  - name: HOST/samples/docker:v1\n")
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil {
		t.Fatal(err)
	}
	done, err := mirror.Delete(t.Context(), o, pruner{Store: s.store, noTags: true}, d.File, false)
	if exitCode(err) != 1 || len(done.Failed) != 1 || len(done.Kept) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	s.holds(t, "samples/docker", "again", s.digest(t, "samples/docker", "v1"))
}

// deletes records what is deleted.
type deletes struct {
	pruner
	all *[]string
}

func (d deletes) Delete(ctx context.Context, repo, ref string) error {
	*d.all = append(*d.all, ref)
	return d.pruner.Delete(ctx, repo, ref)
}

// The signatures of a list's members go with it, but those of a member that a list has that stays.
//
// Spec: signatures 4.
func TestDelete_signaturesOfMembers(t *testing.T) {
	s := newSetup(t, additional)
	s.mirrored(t, "  additionalImages:\n  - name: HOST/samples/oci-multi:v1\n", "a.yaml")
	top, err := s.store.Manifests.ByTag(t.Context(), "samples/oci-multi", "v1")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := image.Parse(top.MediaType, top.Body)
	if err != nil {
		t.Fatal(err)
	}
	one, two := parsed.References[0], parsed.References[1]
	signatures := map[digest.Digest]digest.Digest{}
	for _, member := range []digest.Digest{one.Digest, two.Digest} {
		body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"of":%q}}`, ocispec.MediaTypeImageIndex, member)
		m, err := s.store.Manifests.Put(t.Context(), "samples/oci-multi", []byte(body), store.PutOptions{Tags: []string{image.AttachmentTags(member)[0]}})
		if err != nil {
			t.Fatal(err)
		}
		signatures[member] = m.Digest
	}
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, one.MediaType, one.Digest, one.Size)
	stays, err := s.store.Manifests.Put(t.Context(), "samples/oci-multi", []byte(body), store.PutOptions{Tags: []string{"stays"}})
	if err != nil {
		t.Fatal(err)
	}
	report := fmt.Sprintf(`{"registry":"mirror.example.com:8443","imageSet":"b.yaml","mirrored":[{"repository":"samples/oci-multi","tag":"stays","digest":%q}]}`, stays.Digest)
	if err := os.WriteFile(filepath.Join(s.workspace, "working-dir", "logs", "report_b.json"), []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	o := s.deletion(t, "  additionalImages:\n  - name: HOST/samples/oci-multi:v1\n")
	var all []string
	from := deletes{pruner{Store: s.store}, &all}
	d, err := mirror.PlanDelete(t.Context(), o, from, mirror.DeleteList{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Delete(t.Context(), o, from, d.File, false); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(all, signatures[two.Digest].String()) || slices.Contains(all, signatures[one.Digest].String()) {
		t.Errorf("deleted %q, signatures are %v", all, signatures)
	}
	s.holds(t, "samples/oci-multi", "stays", stays.Digest)
}

// Spec: oc-mirror 3.10.
func TestDelete_tagsOfV1(t *testing.T) {
	s := newSetup(t, additional)
	named := "  additionalImages:\n  - name: HOST/samples/docker@" + s.digest(t, "samples/docker", "v1").String() + "\n  - name: HOST/samples/oci:v1\n"
	d, err := mirror.PlanDelete(t.Context(), s.deletion(t, named), pruner{Store: s.store}, mirror.DeleteList{V1: true})
	if err != nil || len(d.Items) != 2 || !strings.HasSuffix(d.Items[0].ImageReference, "/samples/docker:latest") ||
		!strings.HasSuffix(d.Items[1].ImageReference, "/samples/oci:v1") {
		t.Errorf("%+v, %v", d, err)
	}
	s.mirrored(t, strings.ReplaceAll(named, "docker@", "docker:v1 # @")+"  - {name: HOST/samples/docker-multi:v1, targetRepo: samples/docker, targetTag: latest}\n", "a.yaml")
	d, err = mirror.PlanDelete(t.Context(), s.deletion(t, named), pruner{Store: s.store}, mirror.DeleteList{V1: true, ID: "x"})
	if err != nil || len(d.Items) != 2 || !strings.HasSuffix(d.Items[0].ImageReference, "/samples/docker:"+s.digest(t, "samples/docker", "v1").Encoded()[:8]) {
		t.Errorf("with another image that is latest: %+v, %v", d, err)
	}
}

// Spec: oc-mirror 3.10, 9.7.
func TestDelete_tagsOfOperatorsOfV1(t *testing.T) {
	s := newSetup(t, additional)
	s.mirrored(t, database, "a.yaml")
	d, err := mirror.PlanDelete(t.Context(), s.deletion(t, database), pruner{Store: s.store}, mirror.DeleteList{V1: true})
	if err != nil || len(d.Items) < 4 {
		t.Fatalf("%+v, %v", d, err)
	}
	for _, i := range d.Items {
		h := fnv.New32a()
		io.WriteString(h, i.ImageName)
		if want := fmt.Sprintf(":%x", h.Sum32()); !strings.HasSuffix(i.ImageReference, want) {
			t.Errorf("%+v, want tag %s", i, want)
		}
	}
}

// The tags of version 1 need no flag where the workspace has mirrored with them.
//
// Spec: oc-mirror 3.10, 9.7.
func TestDelete_mirroredAsV1(t *testing.T) {
	s := newSetup(t, additional)
	asV1 := func(o *mirror.Options) { o.Config.V1 = true }
	s.keeping(t, database, asV1)
	o := s.deletion(t, database)
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil || len(d.Items) < 4 || d.Absent > 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	for _, i := range d.Items {
		if strings.Contains(i.ImageReference, ":sha256-") {
			t.Errorf("it lists %s", i.ImageReference)
		}
	}
	s.keeping(t, database) // as version 2
	both, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil || len(both.Items) != 2*len(d.Items) || both.Absent > 0 {
		t.Fatalf("of both versions %+v, %v", both, err)
	}
	done, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, both.File, false)
	if err != nil || len(done.Deleted)+len(done.Absent) != len(both.Items) || len(done.Failed) > 0 { // the tags of one digest go together
		t.Errorf("%+v, %v", done, err)
	}
	if tags := s.tags(t, "operators/sample-database-bundle"); len(tags) > 0 {
		t.Errorf("%q are left", tags)
	}
}

// Bundles share the images of what they run: those that another bundle needs stay.
func TestDelete_operatorsSharedImages(t *testing.T) {
	s := newSetup(t, additional)
	s.mirrored(t, database, "a.yaml")
	before := s.tags(t, "operators/database")
	o := s.deletion(t, strings.Replace(database, "        minVersion: 1.1.0\n", "        minVersion: 1.1.0\n        maxVersion: 1.1.0\n", 1))
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(d.Warnings, func(w string) bool {
		return strings.Contains(w, "operators/database:") && strings.Contains(w, "stays: bundle sample-database.v1.2.0 of operator sample-database needs it")
	}) {
		t.Errorf("warnings %q", d.Warnings)
	}
	if _, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false); err != nil {
		t.Fatal(err)
	}
	if tags := s.tags(t, "operators/database"); !slices.Equal(tags, before) {
		t.Errorf("of what both bundles run there is %v", tags)
	}
	for _, repo := range []string{"operators/sample-database-bundle", "operators/sample-database-operator"} {
		if tags := s.tags(t, repo); len(tags) != 1 {
			t.Errorf("%s has %v", repo, tags)
		}
	}
	o = s.deletion(t, strings.Replace(database, "minVersion: 1.1.0", "minVersion: 1.2.0", 1))
	if d, err = mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{}); err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false); err != nil {
		t.Fatal(err)
	}
	if tags := s.tags(t, "operators/database"); len(tags) != 0 {
		t.Errorf("no bundle is left that needs %v", tags)
	}
}
