package resources

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"
)

// Signature is the OpenPGP signature of a release.
type Signature struct {
	Digest digest.Digest // of the release's payload
	Raw    []byte
}

// configMap has the signatures where a cluster's version operator looks for them. Its fields are
// in the order that oc-mirror writes.
type configMap struct {
	Kind       string            `json:"kind"`
	APIVersion string            `json:"apiVersion"`
	Metadata   metadata          `json:"metadata"`
	BinaryData map[string][]byte `json:"binaryData"`
}

// renderSignatures returns the files of signatures, none if there are no signatures. Each has
// number 1 of its release: oc-mirror counts over all releases, so that a key changes when a
// release is added. The cluster compares the digest only.
func renderSignatures(signatures []Signature, o Options) ([]File, error) {
	if len(signatures) == 0 {
		return nil, nil
	}
	m := configMap{
		Kind: "ConfigMap", APIVersion: "v1",
		Metadata: metadata{
			Annotations: o.annotations(), Name: "mirrored-release-signatures", Namespace: "openshift-config-managed",
			Labels: map[string]string{"release.openshift.io/verification-signatures": ""},
		},
		BinaryData: map[string][]byte{},
	}
	for _, s := range signatures {
		m.BinaryData[fmt.Sprintf("%s-%s-1", s.Digest.Algorithm(), s.Digest.Encoded())] = s.Raw
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write the signatures: %w", err)
	}
	inYAML, err := yaml.JSONToYAML(text)
	if err != nil {
		return nil, fmt.Errorf("write the signatures: %w", err)
	}
	return []File{{"signature-configmap.json", text}, {"signature-configmap.yaml", inYAML}}, nil
}
