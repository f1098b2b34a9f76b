package sample

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type chart struct {
	name, version, kind string
	files               map[string]string // within the chart
}

// charts fills a Helm repository: an application in two versions, with images in its values, one of
// them where only imagePaths finds it, and a library chart without images.
func (b *builder) charts() {
	all := []chart{b.application("1.0.0"), b.application("1.1.0"), library()}
	var index bytes.Buffer
	index.WriteString("apiVersion: v1\nentries:\n")
	last := ""
	for _, c := range all {
		data := b.chartArchive(c)
		b.ociChart(c, data)
		path := c.name + "-" + c.version + ".tgz"
		b.file(ChartsPath+path, "application/gzip", data)
		if c.name != last {
			fmt.Fprintf(&index, "  %s:\n", c.name)
			last = c.name
		}
		fmt.Fprintf(&index, "  - apiVersion: v2\n    name: %s\n    version: %s\n    type: %s\n    created: %q\n    digest: %s\n    urls:\n    - %s\n",
			c.name, c.version, c.kind, created().Format(time.RFC3339), digest.FromBytes(data).Encoded(), path)
	}
	fmt.Fprintf(&index, "generated: %q\n", created().Format(time.RFC3339))
	b.file(ChartsPath+"index.yaml", "application/yaml", index.Bytes())
}

// ociChart stores a chart in a repository of the registry too, as helm push does.
func (b *builder) ociChart(c chart, archive []byte) {
	repo := OCICharts + "/" + c.name
	config := b.blob(repo, "application/vnd.cncf.helm.config.v1+json",
		b.json(map[string]string{"name": c.name, "version": c.version}))
	content := b.blob(repo, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", archive)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{content},
	}
	b.tag(repo, c.version, b.manifest(repo, m.MediaType, m, config, content))
}

func (b *builder) chartArchive(c chart) []byte {
	files := map[string][]byte{
		c.name + "/Chart.yaml": fmt.Appendf(nil,
			"apiVersion: v2\nname: %s\nversion: %s\ntype: %s\n", c.name, c.version, c.kind),
	}
	for name, text := range c.files {
		files[c.name+"/"+name] = []byte(text)
	}
	return b.tgz(files)
}

func (b *builder) application(version string) chart {
	sidecar := b.content.repositories["samples/oci"].tags["v1"]
	values := `image:
  repository: HOST/samples/docker-multi
  tag: v1
init:
  image: HOST/samples/docker:v1
helper:
  image: HOST/samples/oci@DIGEST
replicas: 1
`
	return chart{name: "sample-app", version: version, kind: "application", files: map[string]string{
		"values.yaml": strings.NewReplacer("HOST", b.content.host, "DIGEST",
			sidecar.String()).Replace(values),
		"templates/NOTES.txt":       "{{ .Chart.Name }} runs nothing.\n",
		"templates/deployment.yaml": deploymentTemplate,
	}}
}

func library() chart {
	return chart{name: "sample-library", version: "0.1.0", kind: "library", files: map[string]string{
		"templates/_names.tpl": "{{- define \"sample.name\" -}}{{ .Release.Name }}{{- end -}}\n",
	}}
}

const deploymentTemplate = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-app
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {app: {{ .Release.Name }}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
    spec:
      initContainers:
      - name: init
        image: {{ .Values.init.image | quote }}
      containers:
      - name: app
        image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
        env:
        - name: HELPER_IMAGE
          value: {{ .Values.helper.image | quote }}
`
