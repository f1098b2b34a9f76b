package main_test

import (
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// newQuay3 makes the directory of a mirror-registry 3, with the rows that the real one has written.
func newQuay3(t *testing.T, root string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(root, "storage/uploads"), 0o750))
	must(t, os.MkdirAll(filepath.Join(root, "auth"), 0o700))
	must(t, os.WriteFile(filepath.Join(root, "auth/admin-password"), []byte(quayPassword), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "registry-jwt.pem"), []byte("key"), 0o600))
	must(t, os.CopyFS(root, os.DirFS("testdata/quay3")))
	text, err := os.ReadFile(filepath.Join(root, "quay.sql"))
	must(t, err)
	must(t, os.Remove(filepath.Join(root, "quay.sql")))
	db, err := sql.Open("sqlite", "file:"+filepath.Join(root, "quay.db")+"?_pragma=journal_mode(wal)")
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) }) // open, so that the newest is in the WAL
	_, err = db.Exec(string(text))
	must(t, err)
	for _, content := range quay3Blobs() {
		file := quay3File(root, content)
		must(t, os.MkdirAll(filepath.Dir(file), 0o750))
		must(t, os.WriteFile(file, []byte(content), 0o600))
	}
}

// quay3Blobs are the configurations and layers that its manifests name.
func quay3Blobs() (contents []string) {
	for _, arch := range []string{"amd64", "arm64"} {
		contents = append(contents, fmt.Sprintf(`{"architecture":%q,"os":"linux"}`, arch))
	}
	for _, name := range []string{"amd64", "arm64", "one", "old", "signature"} {
		contents = append(contents, "layer of "+name)
	}
	return contents
}

func quay3File(root, content string) string {
	hash := digest.FromString(content).Encoded()
	return filepath.Join(root, "storage/sha256", hash[:2], hash)
}

// answers asks with logins for what they may see.
func (f *faulty) answers(t *testing.T, path string, want map[string]int) {
	t.Helper()
	for login, want := range want {
		a, err := f.ask(t.Context(), "GET", path, nil, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
		must(t, err)
		if a.status != want {
			t.Errorf("%s is answered %d at %s, want %d", login, a.status, path, want)
		}
	}
}

// TestAdopt_mirrorRegistry3 takes over a store that the real program has written.
func TestAdopt_mirrorRegistry3(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	root := filepath.Join(t.TempDir(), "quay")
	newQuay3(t, root)
	before := readAll(t, root, "quay.db", "quay.db-wal")
	r := f.adopts(t, 1, root)
	if r.Repositories != 4 || r.Manifests != 8 || r.Tags != 5 || r.Blobs != 7 || !slices.Equal(r.Users, []string{"init", "init+ci", "dev"}) {
		t.Errorf("the report is %+v", r)
	}
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].String(), "user dev: it can no longer pull openshift/release") {
		t.Errorf("the problems are %v", r.Problems)
	}
	if !slices.Equal(before, readAll(t, root, "quay.db", "quay.db-wal")) {
		t.Error("its database is changed")
	}
	f.answers(t, "/v2/openshift/release/manifests/4.17", map[string]int{"init:" + quayPassword: 200, "init+ci:" + robotToken: 200, "init+ci:wrong-token": 401, "dev:" + quayPassword: 403})
	f.answers(t, "/v2/mirror/ocp/images/manifests/x", map[string]int{"init:" + quayPassword: 200, "init+ci:" + robotToken: 403})
	f.answers(t, "/v2/openshift/secret/manifests/gone", map[string]int{"init:" + quayPassword: 404})
	const one, signature = "sha256:6ba31ee4c29a515bcec9c2d136f0a4f5d56dff9360ffbc519ba950fabde0a6c4", "sha256:a7bed2e2c6d4fdd28fc073d31b2c4e3a4d4339102178d4a305af516a61f776b4"
	a, err := f.ask(t.Context(), "GET", "/v2/init/app/nested/referrers/"+one, nil, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("init:"+quayPassword)))
	must(t, err)
	if !strings.Contains(string(a.body), signature) {
		t.Errorf("the signature is lost: %s", a.body)
	}
	users, err := f.admin.Users(t.Context())
	must(t, err)
	for name, want := range map[string]string{"init": "admin []", "init+ci": "push [openshift/release]", "dev": "push [dev/*]"} {
		i := slices.IndexFunc(users, func(u api.User) bool { return u.Name == name })
		if got := fmt.Sprint(users[i].Role, " ", users[i].Repositories); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	f.stop(t)
	f.verify(t)
}

// TestAdopt_mirrorRegistry3_withoutConfiguration, as one that was not a 2.x before: the first user is
// its superuser, and there is no key for tokens.
func TestAdopt_mirrorRegistry3_withoutConfiguration(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	root := filepath.Join(t.TempDir(), "quay")
	newQuay3(t, root)
	must(t, os.Remove(filepath.Join(root, "config.yaml")))
	r := f.adopts(t, 1, root)
	if r.Manifests != 8 || !slices.Equal(r.Users, []string{"init", "dev"}) {
		t.Errorf("the report is %+v", r)
	}
	if said := fmt.Sprint(r.Problems); !strings.Contains(said, "user init+ci: its token cannot be read") {
		t.Errorf("the problems are %s", said)
	}
	f.answers(t, "/v2/openshift/secret/manifests/x", map[string]int{"init:" + quayPassword: 200, "dev:" + quayPassword: 403})
}

// comparison is what a cleanup finds out before it removes a mirror-registry.
type comparison struct {
	f       *faulty
	storage string // of the appliance
	root    string // of the mirror-registry
}

func (c comparison) of(t *testing.T, mend bool) (result adopt.Compared, missing []string) {
	t.Helper()
	q, err := adopt.OpenQuay(c.root)
	must(t, err)
	source, err := q.Open(t.Context())
	must(t, err)
	defer source.Close()
	storage, err := os.OpenRoot(c.storage)
	must(t, err)
	defer storage.Close()
	run, err := c.f.admin.BeginSync(t.Context(), "compare")
	must(t, err)
	tags := map[string]digest.Digest{}
	must(t, c.f.admin.Inventory(t.Context(), func(part api.Inventory) {
		for _, tag := range part.Tags {
			tags[tag.Repository+":"+tag.Tag] = tag.Digest
		}
	}))
	result, err = adopt.Comparison{Run: run, Storage: storage, BlobName: blobfile.Name, Mend: mend,
		Existing: func(repository, tag string) digest.Digest { return tags[repository+":"+tag] }}.Compare(t.Context(), source)
	must(t, errors.Join(err, run.Abort(t.Context())))
	for _, p := range result.Missing {
		missing = append(missing, p.String())
	}
	slices.Sort(missing)
	return result, missing
}

// TestCompare lists what a mirror-registry has and the appliance lacks, so that no cleanup loses it unasked.
func TestCompare(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	root := filepath.Join(t.TempDir(), "quay")
	newQuay3(t, root)
	c := comparison{f, f.cfg.Storage, root}
	if _, got := c.of(t, true); len(got) != 8+5 {
		t.Errorf("before it is taken over, %d are missing: %v", len(got), got)
	}
	must(t, os.Remove(quay3File(root, "layer of arm64"))) // which an image and the index need
	f.adopts(t, 1, root)
	want := []string{
		"openshift/release:4.17: the appliance does not have this tag",
		"openshift/release@sha256:becdddc2b84b54c42032476b1dcd7e4afd42257b0918f56a8cbd3ca556d7b4f6: the appliance does not have this manifest",
		"openshift/release@sha256:f57e7390ac2e73766111b029a40ae5e5336aa3b5f9740313104a05e1bbc3c81b: the appliance does not have its layer " + digest.FromString("layer of arm64").String(),
	}
	if _, got := c.of(t, true); !slices.Equal(got, want) {
		t.Errorf("of what was left out, it lists\n%s", strings.Join(got, "\n"))
	}
}

// TestCompare_readsCopies: a copy that is damaged does not count, and the mirror-registry's takes its place if
// that is whole.
func TestCompare_readsCopies(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	root := filepath.Join(t.TempDir(), "quay-install")
	q := newQuay(t, root)
	image := newTestImage("openshift/release", "4.17", randomBytes(2<<20), randomBytes(10))
	q.tag(t, 1, "4.17", q.push(t, 1, image), time.Time{}, false)
	f.adopts(t, 1, root, "--copy")
	c := comparison{f, f.cfg.Storage, root}
	if _, got := c.of(t, true); len(got) > 0 {
		t.Fatalf("of what was taken over, it lists\n%s", strings.Join(got, "\n"))
	}
	ours := func(content []byte) string {
		return filepath.Join(f.cfg.Storage, blobfile.Name(digest.FromBytes(content)))
	}
	damage := func(file string) {
		t.Helper()
		content, err := os.ReadFile(file)
		must(t, err)
		content[len(content)/2] ^= 1
		must(t, os.Remove(file)) // other names of it stay whole
		must(t, os.WriteFile(file, content, 0o600))
	}
	for _, content := range image.contents {
		damage(ours(content))
	}
	if r, got := c.of(t, false); len(got) != len(image.contents) || len(r.Mended) > 0 || !strings.Contains(got[0], "is damaged: it has another digest") {
		t.Errorf("a dry run mends %v and lists\n%s", r.Mended, strings.Join(got, "\n"))
	}
	damage(q.file(digest.FromBytes(image.contents[0])))
	r, got := c.of(t, true)
	if len(r.Mended) != len(image.contents)-1 || len(got) != 1 || !strings.Contains(got[0], "is damaged as well: push or mirror the image again") {
		t.Errorf("it mends %v and lists\n%s", r.Mended, strings.Join(got, "\n"))
	}
	must(t, os.WriteFile(q.file(digest.FromBytes(image.contents[0])), image.contents[0], 0o600))
	if r, got := c.of(t, true); len(r.Mended) != 1 || len(got) > 0 {
		t.Errorf("with a whole copy it mends %v and lists\n%s", r.Mended, strings.Join(got, "\n"))
	}
	f.stop(t)
	f.verify(t)
}

// TestCompare_oneFile: a file that both have by one name, such as by a bind mount, is no second copy.
func TestCompare_oneFile(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	root := filepath.Join(t.TempDir(), "quay-install")
	q := newQuay(t, root)
	image := newTestImage("openshift/release", "4.17", randomBytes(10))
	q.tag(t, 1, "4.17", q.push(t, 1, image), time.Time{}, false)
	f.adopts(t, 1, root, "--copy")
	c := comparison{f, filepath.Join(root, "quay-storage"), root}
	if _, got := c.of(t, true); len(got) != len(image.contents) || !strings.Contains(got[0], "is the mirror-registry's, by another way") {
		t.Errorf("it lists\n%s", strings.Join(got, "\n"))
	}
}
