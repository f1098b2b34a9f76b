package render_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/helm/render"
)

const chartYAML = "apiVersion: v2\nname: app\nversion: 1.2.3\n"

// archive returns a chart with these files, and a Chart.yaml.
func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	all := map[string]string{"Chart.yaml": chartYAML}
	maps.Copy(all, files)
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := w.WriteHeader(&tar.Header{Name: "app/" + name, Mode: 0o644, Size: int64(len(all[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(all[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func pod(name, image string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec: {containers: [{image: " + image + "}]}\n"
}

func hook(kinds, image string) string {
	return "kind: Pod\nmetadata: {annotations: {helm.sh/hook: '" + kinds + "'}}\nspec: {containers: [{image: " + image + "}]}\n"
}

// Spec: oc-mirror 6.5.
func TestChart_images(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		paths []string
		want  string
	}{
		{name: "a pod", files: map[string]string{"templates/a.yaml": pod("a", "q.io/a:1")}, want: "q.io/a:1"},
		{name: "several documents", files: map[string]string{"templates/a.yaml": "---\n" + pod("a", "q.io/a:1") + "--- # next\n" + pod("b", "q.io/b:1")}, want: "q.io/a:1 q.io/b:1"},
		{name: "an image twice", files: map[string]string{"templates/a.yaml": pod("a", "q.io/a:1"), "templates/b.yaml": pod("b", "q.io/a:1")}, want: "q.io/a:1"},
		{name: "init containers of a deployment", files: map[string]string{"templates/a.yaml": "spec: {template: {spec: {initContainers: [{image: q.io/a:1}]}}}\n"}, want: "q.io/a:1"},
		{name: "a cron job", files: map[string]string{"templates/a.yaml": "kind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{image: q.io/a:1}]}}}}}\n"}, want: "q.io/a:1"},
		{name: "a list", files: map[string]string{"templates/a.yaml": "kind: List\nitems: [{spec: {containers: [{image: q.io/a:1}]}}]\n"}, want: "q.io/a:1"},
		{name: "values and helpers", files: map[string]string{"values.yaml": "tag: 7\n", "templates/_x.tpl": `{{ define "x" }}q.io/a:{{ .Values.tag }}{{ end }}`, "templates/a.yaml": pod("a", `{{ include "x" . }}`)}, want: "q.io/a:7"},
		{name: "a first installation", files: map[string]string{"templates/a.yaml": "{{ if .Release.IsInstall }}" + pod("a", "q.io/{{ .Release.Name }}:1") + "{{ end }}"}, want: "q.io/release-name:1"},
		{name: "a hook", files: map[string]string{"templates/a.yaml": hook("pre-install, test", "q.io/a:1")}, want: "q.io/a:1"},
		{name: "without tests", files: map[string]string{"templates/a.yaml": hook("test", "q.io/a:1")}},
		{name: "without notes", files: map[string]string{"templates/NOTES.txt": pod("a", "q.io/a:1")}},
		{name: "a subchart", files: map[string]string{"charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n", "charts/sub/templates/a.yaml": pod("a", "q.io/sub:1")}, want: "q.io/sub:1"},
		{name: "a subchart that is off", files: map[string]string{"Chart.yaml": chartYAML + "dependencies: [{name: sub, version: 1.0.0, condition: sub.enabled}]\n", "values.yaml": "sub: {enabled: false}\n", "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n", "charts/sub/templates/a.yaml": pod("a", "q.io/sub:1")}},
		{name: "imagePaths", files: map[string]string{"templates/a.yaml": "spec: {env: [{value: q.io/a:1}, {value: 'true'}, {value: q.io/b:1 q.io/c:1}], n: 3}\n"}, paths: []string{"{.spec.env[*].value}", "{.spec.n}"}, want: "q.io/a:1 q.io/b:1 q.io/c:1"},
		{name: "imagePaths to a list", files: map[string]string{"templates/a.yaml": "spec: {images: [q.io/a:1, q.io/b:1]}\n"}, paths: []string{"{.spec.images}"}, want: "q.io/a:1 q.io/b:1"},
		{name: "imagePaths beyond a short list", files: map[string]string{"templates/a.yaml": "spec: {args: [x]}\n", "templates/b.yaml": "spec: {args: [x, q.io/a:1]}\n"}, paths: []string{"{.spec.args[1]}"}, want: "q.io/a:1"},
		{name: "a CRD", files: map[string]string{"crds/a.yaml": "kind: CustomResourceDefinition\nspec: {default: q.io/a:1}\n"}, paths: []string{"{.spec.default}"}, want: "q.io/a:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := render.Chart(helm.Chart{Archive: archive(t, tc.files), ImagePaths: tc.paths})
			if got := strings.Join(r.Images, " "); err != nil || got != tc.want || r.Name != "app" || r.Version != "1.2.3" {
				t.Errorf("%+v, %v; want %s", r, err, tc.want)
			}
		})
	}
}

func TestChart_warns(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		paths []string
		want  string
	}{
		{"of an image without tag", map[string]string{"templates/a.yaml": pod("a", "nginx")}, nil, `image "nginx" is not mirrored: nginx unable to parse image correctly : tag and digest are empty`},
		{"of an image without tag at imagePaths", map[string]string{"templates/a.yaml": "spec: {a: quay.io/x/y}\n"}, []string{"{.spec.a}"}, `image "quay.io/x/y" is not mirrored`},
		{"of imagePaths that lead nowhere", map[string]string{"templates/a.yaml": "spec: {a: 1}\n"}, []string{"{.spec.b}"}, "imagePaths: {.spec.b} leads to no value"},
		{"of a dependency that is not there", map[string]string{"Chart.yaml": chartYAML + "dependencies: [{name: sub, version: 1.0.0, repository: 'https://x'}]\n"}, nil, "its dependency sub is not in its directory charts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := render.Chart(helm.Chart{Archive: archive(t, tc.files), ImagePaths: tc.paths})
			if err != nil || len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], tc.want) || len(r.Images) > 0 {
				t.Errorf("%+v, %v; want %s", r, err, tc.want)
			}
		})
	}
}

func TestChart_fails(t *testing.T) {
	for _, tc := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"bytes that are no archive", []byte("<html>"), "read the chart: "},
		{"an archive without Chart.yaml", archive(t, map[string]string{"Chart.yaml": ""}), "read the chart: "},
		{"a value that is required", archive(t, map[string]string{"templates/a.yaml": `{{ required "set image.tag" .Values.tag }}`}), "set image.tag"},
		{"a template that does not parse", archive(t, map[string]string{"templates/a.yaml": `{{ if }}`}), "render the chart: "},
		{"text that is not YAML", archive(t, map[string]string{"templates/a.yaml": "a: [\n"}), "render the chart: app/templates/a.yaml: "},
		{"values that the schema refuses", archive(t, map[string]string{"values.yaml": "a: 1\n", "values.schema.json": `{"properties":{"a":{"type":"string"}}}`}), "render the chart: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := render.Chart(helm.Chart{Archive: tc.archive})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%+v, %v; want %s", r, err, tc.want)
			}
		})
	}
}

func TestChart_directory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"Chart.yaml": chartYAML, "templates/a.yaml": pod("a", "q.io/a:1")} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := render.Chart(helm.Chart{Dir: dir})
	if err != nil || !slices.Equal(r.Images, []string{"q.io/a:1"}) {
		t.Errorf("%+v, %v", r, err)
	}
}
