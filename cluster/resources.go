package cluster

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// object is a resource of a cluster.
type object struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   meta              `yaml:"metadata"`
	Spec       any               `yaml:"spec,omitempty"`
	Data       map[string]string `yaml:"data,omitempty"`
}

type meta struct {
	Name        string            `yaml:"name"`
	Namespace   string            `yaml:"namespace,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

// mirrorEntry is an entry of a mirror set or of a policy.
type mirrorEntry struct {
	Mirrors []string `yaml:"mirrors"`
	Source  string   `yaml:"source"`
	Policy  string   `yaml:"mirrorSourcePolicy,omitempty"`
}

const configAPI = "config.openshift.io/v1"

// documents writes resources as the documents of a file.
func documents(all ...object) ([]byte, error) {
	var text bytes.Buffer
	for _, o := range all {
		doc, err := marshal(o)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", o.Kind, o.Metadata.Name, err)
		}
		text.WriteString("---\n")
		text.Write(doc)
	}
	return text.Bytes(), nil
}

// mirrorObjects returns mirror sets of a kind.
func (r *renderer) mirrorObjects(kind, field string, sets []set) (all []object) {
	for _, s := range sets {
		all = append(all, object{APIVersion: configAPI, Kind: kind, Metadata: meta{Name: s.name},
			Spec: map[string]any{field: r.mirrorEntries(s.entries, true)}})
	}
	return all
}

func (r *renderer) mirrorEntries(entries []entry, policy bool) (all []mirrorEntry) {
	for _, e := range entries {
		m := mirrorEntry{Mirrors: e.mirrors, Source: e.source}
		if policy && r.never(e.source) {
			m.Policy = neverContact
		}
		all = append(all, m)
	}
	return all
}

// policies returns what clusters and programs before mirror sets read; it is about digests only.
func (r *renderer) policies(sets []set) (all []object) {
	for _, s := range sets {
		all = append(all, object{APIVersion: "operator.openshift.io/v1alpha1", Kind: "ImageContentSourcePolicy",
			Metadata: meta{Name: strings.TrimPrefix(s.name, "idms-")},
			Spec:     map[string]any{"repositoryDigestMirrors": r.mirrorEntries(s.entries, false)}})
	}
	return all
}

// named is a resource with the name of its file.
type named struct {
	name string
	data []byte
}

// clusterMirrors returns the mirror sets that the version understands.
func (r *renderer) clusterMirrors() (files []named, err error) {
	put := func(name string, all []object) {
		if len(all) == 0 || err != nil {
			return
		}
		var text []byte
		text, err = documents(all...)
		files = append(files, named{name, text})
	}
	if !r.Version.mirrorSets() {
		put("icsp.yaml", r.policies(r.mirrors.digests))
		if len(r.mirrors.tags) > 0 {
			r.warn("OpenShift %s has no mirrors for tags (4.13 has): name images by digest, or by their names at %s", r.Version, r.first().Address)
		}
		return files, err
	}
	put("idms.yaml", r.mirrorObjects(digestKind, "imageDigestMirrors", r.mirrors.digests))
	put("itms.yaml", r.mirrorObjects(tagKind, "imageTagMirrors", r.mirrors.tags))
	return files, err
}

// served returns the resources of the appliance of a kind, as they are.
func (r *renderer) served(kind string) (files []named, err error) {
	for _, f := range r.Resources {
		if !strings.HasSuffix(f.Name, ".yaml") {
			continue
		}
		var doc struct{ Kind string }
		if err := yaml.Unmarshal(f.Data, &doc); err != nil {
			return nil, fmt.Errorf("the cluster resource %s of the appliance: %w", f.Name, err)
		}
		if doc.Kind == kind {
			files = append(files, named{f.Name, f.Data})
		}
	}
	return files, nil
}

// forInstaller makes what oc and openshift-install read, and the manifests that an installation
// applies.
func (r *renderer) forInstaller() error {
	r.addSecret("pull-secret.json", []byte(r.secret+"\n"))
	if len(r.bundle) > 0 {
		r.add("ca-bundle.pem", r.bundle)
	}
	if len(r.sources) > 0 {
		of := []set{{name: "idms-installer"}}
		for _, s := range r.sources {
			of[0].entries = append(of[0].entries, entry{s.Source, s.Mirrors})
		}
		text, err := documents(object{APIVersion: configAPI, Kind: digestKind, Metadata: meta{Name: of[0].name},
			Spec: map[string]any{"imageDigestMirrors": r.mirrorEntries(of[0].entries, false)}})
		if err != nil {
			return err
		}
		r.add("oc/idms.yaml", text)
		if r.Version.policyFileOption() {
			if text, err = documents(r.policies(of)...); err != nil {
				return err
			}
			r.add("oc/icsp.yaml", text)
		}
	}
	all, err := r.manifests()
	for _, m := range all {
		for _, f := range m.files {
			r.add("openshift/"+f.name, f.data)
		}
	}
	return err
}

// manifests returns the resources of the content: at an installation, and in this order later.
func (r *renderer) manifests() ([]step, error) {
	all := []step{{number: 60}}
	var err error
	if all[0].files, err = r.clusterMirrors(); err != nil {
		return nil, err
	}
	for _, kind := range []struct {
		name   string
		number int
		known  bool
	}{{"CatalogSource", 70, true}, {"ClusterCatalog", 75, r.Version.clusterCatalogs()}, {"ConfigMap", 80, true}} {
		if !kind.known {
			continue
		}
		files, err := r.served(kind.name)
		if err != nil {
			return nil, err
		}
		all = append(all, step{kind.number, files})
	}
	return all, nil
}

// step are files that are applied together.
type step struct {
	number int
	files  []named
}
