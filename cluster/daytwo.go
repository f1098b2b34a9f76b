package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/resources"
)

const (
	registryConfig = "registry-config" // ConfigMap with the CAs of registries
	userBundle     = "user-ca-bundle"
	configNS       = "openshift-config"
	bundleKey      = "ca-bundle.crt"
)

// dayTwo makes the resources for a running cluster, in the order of the numbers. Each file is a
// whole resource, of which oc apply changes the keys that it has. apply.sh applies them.
func (r *renderer) dayTwo() error {
	var all []step
	put := func(number int, name string, o object) error {
		text, err := documents(o)
		all = append(all, step{number, []named{{name, text}}})
		return err
	}
	if len(r.registryCAs()) > 0 {
		trust := r.trust()
		for _, err := range []error{
			put(10, "registry-config.yaml", r.registryConfig()),
			put(20, "image-config.yaml", configOf("Image", map[string]any{"additionalTrustedCA": map[string]string{"name": registryConfig}})),
			put(25, "user-ca-bundle.yaml", trust[0]),
			put(30, "proxy.yaml", trust[1]),
		} {
			if err != nil {
				return err
			}
		}
	}
	if err := put(40, "operatorhub.yaml", configOf("OperatorHub", map[string]any{"disableAllDefaultSources": true})); err != nil {
		return err
	}
	content, err := r.manifests()
	for _, s := range append(all, content...) {
		for _, f := range s.files {
			r.add(fmt.Sprintf("day2/%02d-%s", s.number, f.name), f.data)
		}
	}
	return err
}

func configOf(kind string, spec any) object {
	return object{APIVersion: configAPI, Kind: kind, Metadata: meta{Name: "cluster"}, Spec: spec}
}

// registryConfig returns the ConfigMap with the CA of each registry. A key cannot have a colon:
// there are two dots in its place. The update service looks for its registry's by a name of its
// own.
func (r *renderer) registryConfig() object {
	data := map[string]string{"updateservice-registry": string(r.registryCAs())}
	for _, registry := range r.Registries {
		if registry.CA != nil {
			data[strings.Replace(registry.Address, ":", "..", 1)] = string(certificates(registry.CA))
		}
	}
	return object{APIVersion: "v1", Kind: "ConfigMap", Metadata: meta{Name: registryConfig, Namespace: configNS}, Data: data}
}

const (
	updatesNS     = "openshift-update-service"
	operatorGroup = "operators.coreos.com/v1"
	subscription  = "operators.coreos.com/v1alpha1"
)

// updates makes the resources of OpenShift's update service, if graph data was mirrored.
func (r *renderer) updates() error {
	services, err := r.served("UpdateService")
	if err != nil || len(services) == 0 {
		return err
	}
	catalog, err := r.catalogOfVendor()
	if err != nil {
		return err
	}
	operator, err := documents(
		object{APIVersion: "v1", Kind: "Namespace", Metadata: meta{Name: updatesNS,
			Labels:      map[string]string{"openshift.io/cluster-monitoring": "true"},
			Annotations: map[string]string{"openshift.io/node-selector": ""}}},
		object{APIVersion: operatorGroup, Kind: "OperatorGroup", Metadata: meta{Name: "update-service-operator-group", Namespace: updatesNS},
			Spec: map[string]any{"targetNamespaces": []string{updatesNS}}},
		object{APIVersion: subscription, Kind: "Subscription", Metadata: meta{Name: "update-service-subscription", Namespace: updatesNS},
			Spec: map[string]any{"channel": "v1", "installPlanApproval": "Automatic", "name": "cincinnati-operator",
				"source": catalog, "sourceNamespace": "openshift-marketplace"}})
	r.add("updates/10-operator.yaml", operator)
	r.add("updates/20-update-service.yaml", services[0].data)
	return err
}

// catalogOfVendor returns the name of the CatalogSource with the vendor's operators, of which the
// update service is one.
func (r *renderer) catalogOfVendor() (name string, err error) {
	names, err := resources.SourceNames(r.Resources)
	if err != nil {
		return "", err
	}
	for _, image := range slices.Sorted(maps.Keys(names)) {
		repository, tag, _ := cutLast(image, ":")
		if !strings.HasSuffix(repository, "/redhat-operator-index") {
			continue
		}
		if name = names[image]; tag == "v"+r.Version.String() {
			break
		}
	}
	if name != "" {
		return name, nil
	}
	r.warn("no catalog redhat-operator-index was mirrored: the update service of updates/ is one of its operators (cincinnati-operator)")
	return "redhat-operators", nil
}
