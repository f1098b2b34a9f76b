package cluster

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// graphPath is where an appliance answers clusters that ask for updates.
const graphPath = "/api/upgrades_info/v1/graph"

// UpdateResources returns the resources by which a running cluster asks an appliance for updates, to
// be applied: its CA among those that the cluster trusts for requests, which is not the trust of image
// pulls, and the address. With operator they are those of OpenShift's update service instead, which
// runs in the cluster and reads the appliance.
func UpdateResources(f Facts, operator bool) (text []byte, warnings []string, err error) {
	if err := checkCA(f.first().CA); err != nil {
		return nil, nil, fmt.Errorf("the CA of %s: %w", f.first().Address, err)
	}
	r := &renderer{Facts: f}
	r.bundle = certificates(r.registryCAs())
	if operator {
		return r.updateOperator()
	}
	var all []object
	if len(r.bundle) > 0 {
		all = r.trust()
		r.warn("the ConfigMap %s of %s gets the CA of the appliance and nothing else: if yours has other certificates, add them before you apply this", userBundle, configNS)
	}
	all = append(all, object{APIVersion: configAPI, Kind: "ClusterVersion", Metadata: meta{Name: "version"},
		Spec: map[string]string{"upstream": "https://" + f.first().Address + graphPath}})
	text, err = documents(all...)
	return text, r.warnings, err
}

// trust returns what makes a cluster trust the CAs of its registries in requests.
func (r *renderer) trust() []object {
	return []object{
		{APIVersion: "v1", Kind: "ConfigMap", Metadata: meta{Name: userBundle, Namespace: configNS}, Data: map[string]string{bundleKey: string(r.bundle)}},
		configOf("Proxy", map[string]any{"trustedCA": map[string]string{"name": userBundle}}),
	}
}

// updateOperator returns the resources of OpenShift's update service.
func (r *renderer) updateOperator() (text []byte, warnings []string, err error) {
	if err := r.updates(); err != nil {
		return nil, nil, err
	}
	if len(r.files) == 0 {
		return nil, nil, hint.New(errors.New("the appliance serves no resource UpdateService: no run has mirrored the graph image"),
			"mirror it, with platform.graph: true; or let clusters ask the appliance itself, without --operator")
	}
	var all []object
	if len(r.bundle) > 0 {
		all = append(all, r.registryConfig(), configOf("Image", map[string]any{"additionalTrustedCA": map[string]string{"name": registryConfig}}))
	}
	text, err = documents(all...)
	for _, f := range r.files {
		if !slices.Equal(f.Data[:min(4, len(f.Data))], []byte("---\n")) {
			text = append(text, "---\n"...)
		}
		text = append(text, f.Data...)
	}
	r.warn("apply it again once the operator has brought the kind UpdateService; spec.upstream of the ClusterVersion is then .status.policyEngineURI of the UpdateService, with %s after it", graphPath)
	return text, r.warnings, err
}
