package mirror

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// writeResultsV1 writes the directory results-<unix time> of oc-mirror v1 for the images of a run. It
// is beside working-dir, which has the workspace's own files.
func (e *engine) writeResultsV1(r *Report) error {
	dir := fmt.Sprintf("results-%d", r.Started.Unix())
	of := e.mirroredBefore().only(e, r.Mirrored).resources(e.o.Registry, e.repository(graphRepository))
	if graph := e.graphByDigest(r.Mirrored); graph != "" && of.Updates != nil {
		of.Updates.GraphImage = graph
	}
	files, err := resources.RenderV1(of, resources.Options{ByRepository: e.o.MaxNestedPaths > 0})
	if err != nil {
		return err
	}
	applied := len(files)
	files = append(files, resources.File{Name: "mapping.txt", Data: e.mappingV1(r.Mirrored)})
	files = append(files, e.chartsOfRun()...)
	for n, f := range files {
		at := filepath.Join(e.workspace.dir, dir, filepath.FromSlash(f.Name))
		if err := writeFile(at, f.Data); err != nil {
			return e.workspace.unwritten(err)
		}
		if n < applied { // no cluster takes the others
			r.ResourcesV1 = append(r.ResourcesV1, at)
		}
	}
	return nil
}

// graphByDigest returns the graph image as version 1 names it, "" if there is none.
func (e *engine) graphByDigest(images []*plan.Image) string {
	for _, i := range images {
		if i.Type == plan.Graph {
			return path.Join(e.o.Registry, i.Repository) + "@" + i.Digest.String()
		}
	}
	return ""
}

// mappingV1 returns a line for each image, in order, unlike those of version 1: the source by its
// digest, and the destination by its tag.
func (e *engine) mappingV1(images []*plan.Image) []byte {
	var lines []string
	for _, i := range images {
		source := i.Reference.Pull()
		switch {
		case madeHere(i):
			source = e.destination(i)
		case !i.Reference.IsLayout() && i.Digest != "":
			source = i.Reference.Name() + "@" + i.Digest.String()
		}
		lines = append(lines, source+"="+e.destination(i)+"\n")
	}
	slices.Sort(lines)
	return []byte(strings.Join(slices.Compact(lines), ""))
}

// chartsDir is where a workspace has charts.
const chartsDir = "helm/charts"

// chartsOfRun returns the charts that the workspace has.
func (e *engine) chartsOfRun() (files []resources.File) {
	names, err := e.workspace.List(chartsDir)
	for _, name := range names {
		var data []byte
		if !strings.HasSuffix(name, ".tgz") {
			continue
		}
		if data, err = e.workspace.Read(chartsDir + "/" + name); err == nil {
			files = append(files, resources.File{Name: "charts/" + name, Data: data})
		}
	}
	if err != nil {
		e.o.Log.Warn("charts are missing in the results", "error", err)
	}
	return files
}
