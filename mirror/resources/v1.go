package resources

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"sigs.k8s.io/yaml"
)

// maxPolicy bounds an ImageContentSourcePolicy, which must fit into the cluster's database.
const maxPolicy = 250_000

// policy is an ImageContentSourcePolicy.
type policy struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   policyMetadata `json:"metadata"`
	Spec       policySpec     `json:"spec"`
}

type policyMetadata struct {
	Labels map[string]string `json:"labels,omitempty"`
	Name   string            `json:"name"`
}

type policySpec struct {
	RepositoryDigestMirrors []mirrors `json:"repositoryDigestMirrors"`
}

// RenderV1 returns the files of oc-mirror v1, without those that nothing belongs into. Version 1 pins
// every image to its digest, so that all of them are in a policy.
func RenderV1(m Mirrored, o Options) ([]File, error) {
	policies, err := renderPolicies(m.Images, o)
	if err != nil {
		return nil, err
	}
	signatures, err := renderSignaturesV1(m.Signatures)
	if err != nil {
		return nil, err
	}
	catalogs, err := renderCatalogsV1(m.Catalogs, o)
	if err != nil {
		return nil, err
	}
	updates, err := m.Updates.renderV1()
	return slices.Concat(policies, catalogs, signatures, updates), err
}

func renderPolicies(images []Image, o Options) ([]File, error) {
	var text bytes.Buffer
	for _, c := range slices.Sorted(slices.Values(categories())) {
		set := map[string]string{}
		for _, i := range images {
			if i.Category == c {
				source, destination := scope(i, o.ByRepository || c == "release")
				set[source] = destination
			}
		}
		for n := 0; len(set) > 0; n++ {
			doc, err := nextPolicy(c, n, set)
			if err != nil {
				return nil, err
			}
			text.WriteString("---\n")
			text.Write(doc)
		}
	}
	if text.Len() == 0 {
		return nil, nil
	}
	return []File{{"imageContentSourcePolicy.yaml", text.Bytes()}}, nil
}

// nextPolicy returns a policy with as many of the entries as fit into one, and takes those out of
// the set. Else than in version 1, the next one has a name of its own.
func nextPolicy(category string, n int, set map[string]string) ([]byte, error) {
	p := policy{
		APIVersion: "operator.openshift.io/v1alpha1", Kind: "ImageContentSourcePolicy",
		Metadata: policyMetadata{Name: fmt.Sprintf("%s-%d", category, n)},
	}
	if category == "operator" {
		p.Metadata.Labels = map[string]string{"operators.openshift.org/catalog": "true"}
	}
	const around = 300 // bytes of the document that are not entries
	size := around
	for _, source := range slices.Sorted(maps.Keys(set)) {
		entry := mirrors{Mirrors: []string{set[source]}, Source: source}
		text, err := yaml.Marshal([]mirrors{entry})
		if err != nil {
			return nil, fmt.Errorf("write the policy %s: %w", p.Metadata.Name, err)
		}
		indented := len(text) + 2*bytes.Count(text, []byte("\n"))
		if size+indented > maxPolicy && len(p.Spec.RepositoryDigestMirrors) > 0 {
			break
		}
		size += indented
		p.Spec.RepositoryDigestMirrors = append(p.Spec.RepositoryDigestMirrors, entry)
		delete(set, source)
	}
	return yaml.Marshal(p)
}

// renderSignaturesV1 returns a ConfigMap for each release.
func renderSignaturesV1(signatures []Signature) (files []File, err error) {
	const shown = 16 // digits of the digest in names
	for _, s := range signatures {
		id := s.Digest.Encoded()[:shown]
		text, err := json.Marshal(map[string]any{
			"kind": "ConfigMap", "apiVersion": "v1",
			"metadata": map[string]any{
				"name": "sha256-" + id, "namespace": "openshift-config-managed",
				"labels": map[string]string{"release.openshift.io/verification-signatures": ""},
			},
			"binaryData": map[string][]byte{fmt.Sprintf("%s-%s-1", s.Digest.Algorithm(), s.Digest.Encoded()): s.Raw},
		})
		if err != nil {
			return nil, fmt.Errorf("write the signatures: %w", err)
		}
		name := "release-signatures/signature-sha256-" + id + ".json"
		if !slices.ContainsFunc(files, func(f File) bool { return f.Name == name }) {
			files = append(files, File{name, text})
		}
	}
	return files, nil
}

// renderV1 returns the file without the namespace, none without an update service.
func (u *UpdateService) renderV1() ([]File, error) {
	if u == nil {
		return nil, nil
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "updateservice.operator.openshift.io/v1", "kind": "UpdateService",
		"metadata": map[string]string{"name": "update-service-oc-mirror"},
		"spec":     updateServiceSpec{GraphDataImage: u.GraphImage, Releases: u.Releases, Replicas: 2},
	})
	if err != nil {
		return nil, fmt.Errorf("write the update service: %w", err)
	}
	return []File{{"updateService.yaml", text}}, nil
}
