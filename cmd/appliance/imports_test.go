package main_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// rooms says for each room what else of ours it may import: a room's name, or
// a name with /* for what stands in its directory. A package belongs to the
// room with the longest name that its path starts with; within a room imports
// are free. What stands in internal is for every room.
func rooms() map[string][]string {
	front := []string{"registry/store", "registry/auth", "registry/config"}
	return map[string][]string{
		"cmd":              {"*"},
		"internal/*":       nil,
		"internal/busy":    {"internal/retry"},
		"internal/fetch":   {"internal/retry"},
		"internal/ping":    {"internal/webpage"},
		"internal/sshkey":  {"internal/hint", "internal/regular"},
		"registry":         {"registry/*", "registry/admin/api", "registry/admin/client", "registry/store/backup", "gc", "mirror", "mirror/*", "tlsgen", "systemd"},
		"registry/oci":     front,
		"registry/pull":    front,
		"registry/audit":   {"registry/store", "registry/admin/api"},
		"registry/misses":  {"registry/jobs", "registry/admin/api", "registry/store/sharedrows"},
		"registry/updates": slices.Concat(front, []string{"registry/admin/api", "cluster", "mirror", "mirror/graphdata", "mirror/imageset", "mirror/layers", "mirror/signature", "registry/documents", "registry/stored"}),
		"registry/stored":  front,
		"registry/sealed":  {"registry/store", "registry/store/sharedrows", "tlsgen"},
		"registry/ready": slices.Concat(front, []string{"registry/admin/api", "registry/documents", "registry/stored", "registry/updates",
			"cluster", "cluster/state", "mirror", "mirror/*"}),
		"registry/retain":         slices.Concat(front, []string{"registry/admin/api", "registry/documents", "registry/stored", "registry/updates", "cluster/state", "mirror", "mirror/*"}),
		"registry/documents":      slices.Concat(front, []string{"mirror", "mirror/medium", "mirror/resources", "registry/admin/api"}),
		"registry/admin":          slices.Concat(front, []string{"registry/admin/api", "registry/admin/openapi", "registry/jobs", "registry/role", "registry/store/integrity/findings", "gc", "cluster/state"}),
		"registry/images":         slices.Concat(front, []string{"registry/admin/api"}),
		"registry/follow":         {"registry/store", "registry/admin/api", "registry/admin/client", "mirror/upstream"},
		"registry/jobs":           nil,
		"registry/role":           {"registry/admin/api", "registry/admin/client"},
		"registry/views":          slices.Concat(front, []string{"mirror", "mirror/*", "registry/jobs", "registry/documents", "registry/stored", "registry/admin/api"}),
		"registry/limits":         {"registry/auth"},
		"registry/admin/api":      {"gc", "cluster/state", "registry/store/integrity/findings"},
		"registry/admin/client":   {"registry/admin/api", "gc", "registry/store/integrity/findings"},
		"registry/console":        {"registry/auth", "registry/admin/api", "registry/admin/client", "gc", "docs", "mirror/graphdata", "cluster/state"},
		"registry/store":          {"registry/store/*"},
		"registry/auth":           nil,
		"registry/auth/logintest": {"registry/auth"},
		"registry/config":         {"mirror/imageset"},
		"gc":                      nil,
		"mirror":                  {"mirror/*"},
		"mirror/*":                nil,
		"mirror/plan":             {"mirror/imageset"},
		"mirror/archive":          {"mirror/plan", "mirror/metadata", "mirror/imageset"},
		"mirror/catalog":          {"mirror/imageset", "mirror/layers", "mirror/operator", "mirror/plan", "mirror/rebuild", "mirror/resources"},
		"mirror/desttest":         {"mirror"},
		"mirror/medium":           {"mirror"},
		"docs":                    nil,
		"cluster":                 {"mirror/resources", "mirror/upstream"},
		"cluster/*":               {"cluster"},
		"cluster/node":            {"cluster", "mirror/layers", "mirror/release", "mirror/upstream"},
		"mirror/sourcetest":       {"mirror"},
		"mirror/helm":             {"mirror/plan", "mirror/imageset"},
		"mirror/metadata":         {"mirror/layers"},
		"mirror/operator":         {"mirror/imageset"},
		"mirror/rebuild":          {"mirror/layers", "mirror/ocilayout"},
		"mirror/release":          {"mirror/layers", "mirror/plan", "mirror/imageset", "mirror/updategraph", "mirror/signature"},
		"mirror/updategraph":      {"mirror/graphdata"},
		"installer":               {"installer/adopt", "installer/relocate", "ansible-free/host", "systemd", "tlsgen", "registry/config", "registry/auth", "registry/admin/api", "registry/admin/client"},
		"support":                 {"installer", "ansible-free/host", "systemd", "registry/config", "registry/admin/api", "registry/admin/client"},
		"installer/relocate":      {"ansible-free/host"},
		"installer/remote":        nil,
		"installer/adopt":         {"registry/admin/api", "registry/auth"},
		"tlsgen":                  nil,
		"systemd":                 nil,
		"ansible-free/host":       nil,
		"testdata":                nil,
		"testdata/minioserver":    nil,
		"testdata/s3server":       nil,
		"testdata/olmcheck":       {"mirror/imageset", "mirror/operator", "mirror/operator/*", "testdata"},

		"registry/admin/openapi": {"registry/admin/api"},

		"registry/console/consoletest": nil,

		"registry/store/blobstore":  nil,
		"registry/store/blobfile":   {"registry/store/blobstore"},
		"registry/store/blobs3":     {"registry/store/blobstore"},
		"registry/store/guard":      nil,
		"registry/store/sharedrows": {"registry/store/database"},
		"registry/store/fence":      {"registry/store/blobstore", "registry/store/database"},
		"registry/store/leases":     {"registry/store/blobstore", "registry/store/database", "registry/store/guard"},

		"registry/store/blobstore/blobstoretest": {"registry/store/blobstore"},
		"registry/store/blobs3/s3test":           nil,
		"registry/store/storetest":               {"registry/store", "registry/store/blobs3/s3test", "registry/store/postgres"},

		"registry/store/integrity/findings": nil,

		"registry/store/database":   nil,
		"registry/store/sqlite":     {"registry/store/database"},
		"registry/store/postgres":   {"registry/store/database"},
		"registry/store/migrations": {"registry/store/database", "registry/store/postgres", "registry/store/postgres/postgrestest", "registry/store/sqlite"},
		"registry/store/integrity":  {"registry/store/database", "registry/store/blobstore", "registry/store/blobfile", "registry/store/integrity/findings"},
		"registry/store/transfer": {"registry/store/database", "registry/store/sqlite", "registry/store/postgres", "registry/store/migrations", "registry/store/blobstore", "registry/store/blobfile",
			"registry/store/blobs3", "registry/store/integrity", "registry/store/fence"},
		"registry/store/backup": {"registry/store/database", "registry/store/sqlite", "registry/store/migrations", "registry/store/blobfile", "registry/store/integrity"},
	}
}

// TestImports_runOneWay reads every file itself: what a test reads by running
// go list is not seen by the test cache.
func TestImports_runOneWay(t *testing.T) {
	root, module := moduleRoot(t)
	imports, err := readImports(root, module)
	if err != nil {
		t.Fatal(err)
	}
	if len(imports) < 2 {
		t.Fatalf("only %d packages found below %s", len(imports), root)
	}
	for _, v := range violations(imports) {
		t.Error(v)
	}
}

// Helm's libraries would more than double the memory of an idle daemon: only a
// program of its own has them.
func TestImports_helmIsOutside(t *testing.T) {
	root, module := moduleRoot(t)
	imports, err := readImports(root, module)
	if err != nil {
		t.Fatal(err)
	}
	for pkg, all := range imports {
		if slices.Contains(all, "mirror/helm/render") && pkg != "cmd/appliance-helm" {
			t.Errorf("%s imports mirror/helm/render", pkg)
		}
	}
}

func TestImports_violationsAreFound(t *testing.T) {
	for _, tc := range []struct{ from, to, want string }{
		{from: "cmd/appliance", to: "registry/store"},
		{from: "cmd/appliance", to: "testdata"},
		{from: "cmd/sample-upstream", to: "cmd/sample-upstream/sample"},
		{from: "registry", to: "registry/oci"},
		{from: "registry", to: "mirror/upstream"},
		{from: "registry/oci", to: "registry/store"},
		{from: "registry/admin", to: "registry/auth"},
		{from: "registry/admin/client", to: "registry/admin/api"},
		{from: "registry/admin/client", to: "registry/store", want: "registry/admin/client imports registry/store: registry/admin/client may import registry/admin/api, gc, registry/store/integrity/findings"},
		{from: "registry/store", to: "registry/store/blobfile"},
		{from: "registry/store/blobfile", to: "internal/x"},
		{from: "mirror", to: "mirror/release"},
		{from: "mirror/release", to: "mirror/release/payload"},
		{from: "installer", to: "registry/config"},
		{from: "installer", to: "registry/config/internal/x"},
		{from: "gc", to: "internal/x"},
		{from: "mirror/release", to: "internal/x"},

		{from: "registry", to: "installer", want: "registry imports installer: registry may import registry/*, registry/admin/api, registry/admin/client, registry/store/backup, gc, mirror, mirror/*, tlsgen, systemd"},
		{from: "registry/oci", to: "registry/pull", want: "registry/oci imports registry/pull: registry/oci may import registry/store, registry/auth, registry/config"},
		{from: "registry/oci", to: "registry", want: "registry/oci imports registry: registry/oci may import registry/store, registry/auth, registry/config"},
		{from: "registry/store", to: "registry/config", want: "registry/store imports registry/config: registry/store may import registry/store/*"},
		{from: "registry/store/blobfile", to: "registry/store", want: "registry/store/blobfile imports registry/store: registry/store/blobfile may import registry/store/blobstore"},
		{from: "gc", to: "registry/store", want: "gc imports registry/store: gc may import nothing of ours"},
		{from: "mirror", to: "registry/store", want: "mirror imports registry/store: mirror may import mirror/*"},
		{from: "mirror/upstream", to: "mirror", want: "mirror/upstream imports mirror: mirror/upstream may import nothing of ours"},
		{from: "mirror/release", to: "mirror/upstream", want: "mirror/release imports mirror/upstream: mirror/release may import mirror/layers, mirror/plan, mirror/imageset, mirror/updategraph, mirror/signature"},
		{from: "installer", to: "registry/store", want: "installer imports registry/store: installer may import installer/adopt, installer/relocate, ansible-free/host, systemd, tlsgen, registry/config, registry/auth, registry/admin/api, registry/admin/client"},
		{from: "tlsgen", to: "cmd/sample-upstream/sample", want: "tlsgen imports cmd/sample-upstream/sample: tlsgen may import nothing of ours"},
		{from: "registry/s3", to: "registry/store", want: "registry/s3 is in no room, give it one in rooms()"},
		{from: "internal/x", to: "gc", want: "internal/x imports gc: internal/x may import nothing of ours"},
		{from: "internal/x", to: "internal/y", want: "internal/x imports internal/y: internal/x may import nothing of ours"},
		{from: "util", to: "gc", want: "util is in no room, give it one in rooms()"},
		{from: "gc", to: "util", want: "gc imports util: gc may import nothing of ours"},
	} {
		t.Run(tc.from+" imports "+tc.to, func(t *testing.T) {
			found := violations(map[string][]string{tc.from: {tc.to}})
			if got := strings.Join(found, "\n"); got != tc.want {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

func TestImports_readFromFiles(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"gc/gc.go":               "package gc\nimport (\n\t\"fmt\"\n\t_ \"example.com/m/registry/store\"\n)\n",
		"gc/gc_test.go":          "package gc\nimport _ \"example.com/m/installer\"\n",
		"gc/linux.go":            "//go:build never\n\npackage gc\nimport _ \"example.com/m/mirror\"\n",
		"gc/testdata/fixture.go": "package broken {",
		".git/hook.go":           "package broken {",
		"mirror/mirror.go":       "package mirror\nimport _ \"example.com/mother\"\n",
		"mirror/only_test.go":    "package mirror\n",
		"testdata/testdata.go":   "package testdata\nimport _ \"example.com/m/gc\"\n",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readImports(root, "example.com/m")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"gc": {"mirror", "registry/store"}, "mirror": nil, "testdata": {"gc"}}
	if len(got) != len(want) {
		t.Fatalf("packages %v, want %v", got, want)
	}
	for dir, imports := range want {
		slices.Sort(got[dir])
		if !slices.Equal(got[dir], imports) {
			t.Errorf("%s imports %v, want %v", dir, got[dir], imports)
		}
	}
}

// violations lists every import that the rooms do not allow, and every package
// without a room.
func violations(imports map[string][]string) []string {
	var found []string
	for pkg, all := range imports {
		room, ok := roomOf(pkg)
		if !ok {
			found = append(found, pkg+" is in no room, give it one in rooms()")
			continue
		}
		for _, to := range all {
			if !allowed(room, to) {
				found = append(found, pkg+" imports "+to+": "+room+" may import "+describeAllowed(room))
			}
		}
	}
	slices.Sort(found)
	return found
}

// roomOf finds the room of a package. Every directory of a room with a /* is a
// room of its own; the directory of any other divided room holds that room's
// package alone, so that a new one in registry is in no room until rooms says so.
func roomOf(pkg string) (string, bool) {
	all := rooms()
	for dir := pkg; dir != "."; dir = path.Dir(dir) {
		if _, ok := all[path.Dir(dir)+"/*"]; ok {
			return dir, true
		}
		if _, ok := all[dir]; ok {
			return dir, dir == pkg || !divided(dir)
		}
	}
	return "", false
}

func divided(dir string) bool {
	for room := range rooms() {
		if strings.HasPrefix(room, dir+"/") {
			return true
		}
	}
	return false
}

func allowed(room, to string) bool {
	target, known := roomOf(to)
	if known && target == room || strings.HasPrefix(to, "internal/") && !strings.HasPrefix(room, "internal/") {
		return true
	}
	for _, pattern := range allowedFor(room) {
		dir, wild := strings.CutSuffix(pattern, "/*")
		if pattern == "*" || known && target == pattern || wild && strings.HasPrefix(to, dir+"/") {
			return true
		}
	}
	return false
}

func allowedFor(room string) []string {
	all := rooms()
	if rule, ok := all[room]; ok {
		return rule
	}
	return all[path.Dir(room)+"/*"]
}

func describeAllowed(room string) string {
	if rule := allowedFor(room); len(rule) > 0 {
		return strings.Join(rule, ", ")
	}
	return "nothing of ours"
}

// readImports gives, for each package that has more than tests, by its
// directory, what it imports of this module. Build constraints do not matter.
func readImports(root, module string) (map[string][]string, error) {
	imports := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			return skipDir(rel)
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := path.Dir(rel)
		if _, ok := imports[dir]; !ok {
			imports[dir] = nil // a package without imports of ours is one as well
		}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(name, module+"/"); ok && !slices.Contains(imports[dir], ours) {
				imports[dir] = append(imports[dir], ours)
			}
		}
		return nil
	})
	return imports, err
}

// skipDir passes over what the go command passes over, and over what make run
// leaves behind; the top testdata is a package.
func skipDir(rel string) error {
	base := path.Base(rel)
	hidden := rel != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"))
	if hidden || base == "testdata" && rel != "testdata" || rel == "run" || rel == "bin" {
		return fs.SkipDir
	}
	return nil
}

// moduleRoot is the nearest directory upwards that has a go.mod, and the module's path.
func moduleRoot(t *testing.T) (dir, module string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, modfile.ModulePath(data)
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = filepath.Dir(dir)
	}
}
