// Package render renders a Helm chart with its default values, and finds the images in what comes
// out.
//
// Use Chart. It is Helm's own loader and engine, and client-go's JSONPath, as oc-mirror has it.
// Packages that these import take 60 ms and 20 MB of each process that they are linked into, so
// that only cmd/appliance-helm imports this one, and the command and the daemon start that program
// when an image set has charts.
package render

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/mirror/helm"
)

// Chart renders a chart, and returns the images of its manifests and hooks.
func Chart(of helm.Chart) (helm.Rendered, error) {
	c, err := load(of)
	if err != nil {
		return helm.Rendered{}, fmt.Errorf("read the chart: %w", err)
	}
	rendered := helm.Rendered{Name: c.Name(), Version: c.Metadata.Version, Warnings: missingDependencies(c)}
	finder, err := newFinder(of.ImagePaths)
	if err != nil {
		return rendered, err
	}
	files, err := manifests(c)
	if err != nil {
		return rendered, fmt.Errorf("render the chart: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, text := range documentMark.Split(files[name], -1) {
			var document any
			if err := yaml.Unmarshal([]byte(text), &document); err != nil {
				return rendered, fmt.Errorf("render the chart: %s: %w", name, err)
			}
			if !isTest(document) {
				finder.look(document)
			}
		}
	}
	rendered.Images = finder.images
	rendered.Warnings = append(rendered.Warnings, finder.warnings()...)
	return rendered, nil
}

func load(of helm.Chart) (*chart.Chart, error) {
	if of.Dir != "" {
		return loader.LoadDir(of.Dir)
	}
	return loader.LoadArchive(bytes.NewReader(of.Archive))
}

// documentMark stands between two documents of a YAML file.
var documentMark = regexp.MustCompile(`(?m)^---(?:[ \t].*)?$`)

// manifests returns the files that a first installation would apply, by the names of their
// templates.
func manifests(c *chart.Chart) (map[string]string, error) {
	values := chartutil.Values{}
	if err := chartutil.ProcessDependenciesWithMerge(c, values); err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "release-name", Namespace: "default", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(files, func(name, _ string) bool {
		return strings.HasSuffix(name, ".txt") || strings.HasPrefix(path.Base(name), "_")
	})
	for _, crd := range c.CRDObjects() {
		files[crd.Filename] = string(crd.File.Data)
	}
	return files, nil
}

// missingDependencies returns a warning for each chart that Chart.yaml names and charts/ lacks.
// Helm refuses to install these; oc-mirror renders the rest, and does not mention it.
func missingDependencies(c *chart.Chart) (warnings []string) {
	for _, d := range c.Metadata.Dependencies {
		if d != nil && !slices.ContainsFunc(c.Dependencies(),
			func(sub *chart.Chart) bool { return sub.Name() == d.Name }) {
			warnings = append(warnings, fmt.Sprintf("its dependency %s is not in its directory charts, so that images of it are not mirrored; helm dependency build puts it there", d.Name))
		}
	}
	return warnings
}

// isTest reports whether a document is a hook for helm test only, which no installation needs.
func isTest(document any) bool {
	object, _ := document.(map[string]any)
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	hooks, _ := annotations["helm.sh/hook"].(string)
	if hooks == "" {
		return false
	}
	for hook := range strings.SplitSeq(hooks, ",") {
		if hook = cmp.Or(strings.TrimSpace(hook), "test"); hook != "test" &&
			hook != "test-success" && hook != "test-failure" {
			return false
		}
	}
	return true
}
