package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// writeDryRun writes what oc-mirror's dry run does, and returns the path of the mapping: a line for
// each image, and in missing.txt those that the destination lacks. The resources of a run in which
// nothing fails are beside them: those of the workspace are about what is mirrored, and are applied.
func (e *engine) writeDryRun(p *plan.Plan, lacks map[*plan.Image]bool) (mapping string, err error) {
	var all, missing strings.Builder
	for _, i := range p.Images {
		source := i.Reference.Location()
		if madeHere(i) {
			source = "docker://" + e.destination(i) // as in oc-mirror: there is no other
		}
		line := fmt.Sprintf("%s=docker://%s\n", source, e.destination(i))
		all.WriteString(line)
		if lacks[i] {
			missing.WriteString(line)
		}
		if e.o.ListMembers {
			all.WriteString(e.members(i))
		}
	}
	files := []resources.File{{Name: "mapping.txt", Data: []byte(all.String())}}
	if missing.Len() > 0 {
		files = append(files, resources.File{Name: "missing.txt", Data: []byte(missing.String())})
	}
	if len(p.Prune) > 0 {
		files = append(files, resources.File{Name: "pruning-plan.json", Data: pruningPlan(p)})
	}
	if !e.o.ToArchive {
		all := e.mirroredWith(p.Images)
		rendered, err := e.render(e.wanted(all, p.Images), e.o.Now())
		if err != nil {
			return "", err
		}
		for _, f := range rendered {
			files = append(files, resources.File{Name: "cluster-resources/" + f.Name, Data: f.Data})
		}
	}
	paths, err := e.workspace.replace("dry-run", files)
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

// lacking returns the images whose manifest is not in its repository of the destination, or that it
// cannot answer for.
func (v *inventory) lacking(ctx context.Context, p *plan.Plan) (map[*plan.Image]bool, error) {
	lacks := map[*plan.Image]bool{}
	for images := range slices.Chunk(p.Images, atOnce) {
		q := newQuestion()
		for _, i := range images {
			q.manifests[place{i.Repository, i.Digest}] = true
		}
		a := v.ask(ctx, q)[0]
		for _, i := range images {
			if a.err != nil || !a.manifests[place{i.Repository, i.Digest}] {
				lacks[i] = true
			}
		}
	}
	return lacks, ctx.Err()
}

// members returns a line for each manifest that the manifest list of an image names. The source
// keeps its tag.
func (e *engine) members(i *plan.Image) string {
	var lines strings.Builder
	of := i.Reference
	of.Digest = ""
	source := strings.TrimSuffix(of.Location(), ":")
	for _, m := range i.Manifests {
		if m.Descriptor.Digest != i.Digest && image.IsIndex(root(i).MediaType) {
			fmt.Fprintf(&lines, "%s@%s=docker://%s/%s@%[2]s\n", source,
				m.Descriptor.Digest, e.o.Registry, i.Repository)
		}
	}
	return lines.String()
}

// root returns the manifest that an image's tag names.
func root(i *plan.Image) ocispec.Descriptor {
	if len(i.Manifests) == 0 {
		return ocispec.Descriptor{}
	}
	return i.Manifests[len(i.Manifests)-1].Descriptor
}
