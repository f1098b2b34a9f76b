package resources

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// UpdateService is where the update service of a cluster finds graph data and releases.
type UpdateService struct {
	GraphImage string // reference of the graph image
	Releases   string // registry and repository of the releases
}

// updateService is the resource, with the fields that oc-mirror writes.
type updateService struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metadata          `json:"metadata"`
	Spec       updateServiceSpec `json:"spec"`
}

type updateServiceSpec struct {
	GraphDataImage string `json:"graphDataImage"`
	Releases       string `json:"releases"`
	Replicas       int    `json:"replicas"`
}

// render returns the file, none without an update service.
func (u *UpdateService) render(o Options) ([]File, error) {
	if u == nil {
		return nil, nil
	}
	text, err := yaml.Marshal(updateService{
		APIVersion: "updateservice.operator.openshift.io/v1", Kind: "UpdateService",
		Metadata: metadata{Annotations: o.annotations(), Name: "update-service-oc-mirror",
			Namespace: "openshift-update-service"},
		Spec: updateServiceSpec{GraphDataImage: u.GraphImage, Releases: u.Releases, Replicas: 2},
	})
	if err != nil {
		return nil, fmt.Errorf("write the update service: %w", err)
	}
	return []File{{"updateService.yaml", text}}, nil
}
