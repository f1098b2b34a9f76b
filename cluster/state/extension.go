package state

import (
	"errors"
	"fmt"
	"slices"
)

// Extension is an operator that OLM v1 installs: a ClusterExtension.
type Extension struct {
	Name    string `json:"name"`
	Package string `json:"package"` // "": its source is no catalog
	// Channels are those whose updates count; none: those of all.
	Channels []string `json:"channels,omitempty"`
	// Range are the versions to which it is updated, "" for any.
	Range string `json:"range,omitempty"`
	// Policy is upgradeConstraintPolicy, "" for CatalogProvided.
	Policy   string   `json:"policy,omitempty"`
	Selector Selector `json:"selector,omitzero"`
	// Bundle is the one that is installed, "" for none.
	Bundle  string `json:"bundle,omitempty"`
	Version string `json:"version,omitempty"`
	// Trouble is the reason that it is not as it is to be, "" if it is.
	Trouble string `json:"trouble,omitempty"`
}

// The values of Extension.Policy.
const (
	CatalogProvided = "CatalogProvided"
	SelfCertified   = "SelfCertified" // the updates of channels do not count
)

// ClusterCatalog is a catalog of OLM v1.
type ClusterCatalog struct {
	Name        string            `json:"name"`
	Image       string            `json:"image"`              // "": it is no image
	Resolved    string            `json:"resolved,omitempty"` // the image by digest
	Priority    int64             `json:"priority,omitempty"`
	Unavailable bool              `json:"unavailable,omitempty"` // no operator is installed from it
	Labels      map[string]string `json:"labels,omitempty"`
}

// Selector selects the catalogs that an extension is installed from. The zero Selector selects all.
type Selector struct {
	Labels      map[string]string `json:"matchLabels,omitempty"`
	Expressions []Expression      `json:"matchExpressions,omitempty"`
}

// Expression is a condition of a label.
type Expression struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

// Selects reports whether a catalog has the labels that are wanted. An error says that it is not known.
func (s Selector) Selects(c ClusterCatalog) (bool, error) {
	for key, value := range s.Labels {
		if has, ok := c.Labels[key]; !ok || has != value {
			return false, nil
		}
	}
	for _, e := range s.Expressions {
		value, has := c.Labels[e.Key]
		in := has && slices.Contains(e.Values, value)
		switch e.Operator {
		case "In":
			has = in
		case "NotIn":
			has = !in
		case "Exists":
		case "DoesNotExist":
			has = !has
		default:
			return false, fmt.Errorf("the operator %q of a selector is not known", e.Operator)
		}
		if !has {
			return false, nil
		}
	}
	return true, nil
}

type condition struct{ Type, Status, Reason, Message string }

// extension reads a ClusterExtension.
func (f *Facts) extension(o *object) error {
	var spec struct {
		Source struct {
			Catalog struct {
				PackageName, Version    string
				Channels                []string
				Selector                Selector
				UpgradeConstraintPolicy string
			}
		}
	}
	var status struct {
		Conditions []condition
		Install    struct {
			Bundle struct{ Name, Version string }
		}
	}
	err := errors.Join(decode(o.Spec, &spec), decode(o.Status, &status))
	from, bundle := spec.Source.Catalog, status.Install.Bundle
	e := Extension{Name: o.Metadata.Name, Package: from.PackageName, Channels: from.Channels, Range: from.Version,
		Policy: from.UpgradeConstraintPolicy, Selector: from.Selector, Bundle: bundle.Name, Version: bundle.Version}
	for _, c := range status.Conditions {
		if c.Type == "Installed" && c.Status != "True" || c.Type == "Progressing" && c.Reason != "Succeeded" {
			e.Trouble = c.Reason
		}
	}
	f.Extensions = append(f.Extensions, e)
	return err
}

// clusterCatalog reads a ClusterCatalog.
func (f *Facts) clusterCatalog(o *object) error {
	type image struct{ Image struct{ Ref string } }
	var spec struct {
		Source           image
		Priority         int64
		AvailabilityMode string
	}
	var status struct{ ResolvedSource image }
	err := errors.Join(decode(o.Spec, &spec), decode(o.Status, &status))
	f.ClusterCatalogs = append(f.ClusterCatalogs, ClusterCatalog{o.Metadata.Name, spec.Source.Image.Ref, status.ResolvedSource.Image.Ref,
		spec.Priority, spec.AvailabilityMode == "Unavailable", o.Metadata.Labels})
	return err
}
