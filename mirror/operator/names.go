package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/Masterminds/semver/v3"
)

// DisplayNames returns the names that people know the packages by: each has that of its bundle with
// the highest version. A package without one is left out.
func (s *Selection) DisplayNames(ctx context.Context, files fs.FS) (map[string]string, error) {
	r := s.index.reader(files)
	defer r.close()
	names := map[string]string{}
	for _, p := range s.parts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		highest := highest(p.bundles)
		if highest == nil {
			continue
		}
		raw, err := r.read(highest.at)
		if err != nil {
			return nil, fmt.Errorf("read bundle %q of package %q: %w", highest.name, p.pack.name, err)
		}
		if name := displayName(raw); name != "" {
			names[p.pack.name] = name
		}
	}
	return names, nil
}

// highest returns the bundle with the highest version, nil if none has one.
func highest(bundles []bundle) (found *bundle) {
	var version *semver.Version
	for i, b := range bundles {
		if v, err := semver.NewVersion(b.version); err == nil && (version == nil || v.GreaterThan(version)) {
			found, version = &bundles[i], v
		}
	}
	return found
}

// displayName returns the name in a bundle's metadata, or in its ClusterServiceVersion, where older
// bundles have it.
func displayName(raw []byte) string {
	var b struct {
		Properties []struct {
			Type  string
			Value json.RawMessage
		}
	}
	if json.Unmarshal(raw, &b) != nil {
		return ""
	}
	for _, p := range b.Properties {
		var metadata struct{ DisplayName string }
		var object struct{ Data []byte }
		var csv struct {
			Kind string
			Spec struct{ DisplayName string }
		}
		switch p.Type {
		case "olm.csv.metadata":
			if json.Unmarshal(p.Value, &metadata) == nil && metadata.DisplayName != "" {
				return metadata.DisplayName
			}
		case "olm.bundle.object":
			if json.Unmarshal(p.Value, &object) == nil && json.Unmarshal(object.Data, &csv) == nil && csv.Kind == "ClusterServiceVersion" {
				return csv.Spec.DisplayName
			}
		}
	}
	return ""
}
