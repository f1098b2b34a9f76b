package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// kubeVirtMachines are the machines that a release has boot images for KubeVirt for, by the names
// of architectures in an image set.
func kubeVirtMachines(arch string) []string {
	switch arch {
	case "amd64":
		return []string{"x86_64"}
	case "s390x":
		return []string{"s390x"}
	case "multi":
		return []string{"x86_64", "s390x"}
	}
	return nil
}

// kubeVirt returns the images that KubeVirt boots nodes from, if they are asked for: those of the
// architectures of the image set.
func (c *Collector) kubeVirt(found *unpacked) ([]Component, error) {
	platform := c.Config.Mirror.Platform
	if !platform.KubeVirtContainer {
		return nil, nil
	}
	var machines []string
	for _, p := range platform.Platforms {
		machines = append(machines, kubeVirtMachines(p.Architecture)...)
	}
	if len(platform.Platforms) == 0 {
		for _, arch := range platform.Architectures {
			machines = append(machines, kubeVirtMachines(arch)...)
		}
		if len(platform.Architectures) == 0 { // with platform.release
			machines = kubeVirtMachines("amd64")
		}
	}
	slices.Sort(machines)
	machines = slices.Compact(machines)
	images, err := bootImages(found.files[bootImagesName])
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", manifestsDirectory, bootImagesName, err)
	}
	var all []Component
	for _, machine := range machines {
		name := "kube-virt-container"
		if len(machines) > 1 {
			name += "-" + machine
		}
		if images[machine] != "" {
			all = append(all, Component{name, images[machine]})
		}
	}
	if len(all) == 0 {
		return nil, hint.New(errors.New("could not find kubevirt image in this release"),
			"leave platform.kubeVirtContainer out, or mirror a release and an architecture that have one")
	}
	return all, nil
}

// bootImages returns the references by machine in a ConfigMap of boot images.
func bootImages(manifest []byte) (map[string]string, error) {
	var m struct{ Data struct{ Stream string } }
	if err := yaml.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	if m.Data.Stream == "" {
		return nil, nil
	}
	var stream struct {
		Architectures map[string]struct {
			Images struct {
				KubeVirt struct {
					DigestRef string `json:"digest-ref"`
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(m.Data.Stream), &stream); err != nil {
		return nil, err
	}
	all := map[string]string{}
	for machine, s := range stream.Architectures {
		all[machine] = s.Images.KubeVirt.DigestRef
	}
	return all, nil
}
