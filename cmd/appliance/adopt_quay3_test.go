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

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/registry/admin/api"
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

// TestMissing lists what a mirror-registry has and the appliance lacks, so that no cleanup loses it unasked.
func TestMissing(t *testing.T) {
	f := newFaulty(t, "")
	f.start(t)
	root := filepath.Join(t.TempDir(), "quay")
	newQuay3(t, root)
	missing := func() []adopt.Problem {
		t.Helper()
		q, err := adopt.OpenQuay(root)
		must(t, err)
		source, err := q.Open(t.Context())
		must(t, err)
		defer source.Close()
		run, err := f.admin.BeginSync(t.Context(), "compare")
		must(t, err)
		tags := map[string]digest.Digest{}
		must(t, f.admin.Inventory(t.Context(), func(part api.Inventory) {
			for _, tag := range part.Tags {
				tags[tag.Repository+":"+tag.Tag] = tag.Digest
			}
		}))
		problems, err := adopt.Missing(t.Context(), source, run, func(repository, tag string) digest.Digest { return tags[repository+":"+tag] })
		must(t, errors.Join(err, run.Abort(t.Context())))
		return problems
	}
	if got := missing(); len(got) != 8+5 {
		t.Errorf("before it is taken over, %d are missing: %v", len(got), got)
	}
	must(t, os.Remove(quay3File(root, "layer of arm64"))) // which an image and the index need
	f.adopts(t, 1, root)
	var got []string
	for _, p := range missing() {
		got = append(got, p.String())
	}
	slices.Sort(got)
	want := []string{
		"openshift/release:4.17: the appliance does not have this tag",
		"openshift/release@sha256:becdddc2b84b54c42032476b1dcd7e4afd42257b0918f56a8cbd3ca556d7b4f6: the appliance does not have this manifest",
		"openshift/release@sha256:f57e7390ac2e73766111b029a40ae5e5336aa3b5f9740313104a05e1bbc3c81b: the appliance does not have this manifest",
	}
	if !slices.Equal(got, want) {
		t.Errorf("of what was left out, it lists\n%s", strings.Join(got, "\n"))
	}
}
