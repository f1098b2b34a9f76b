package ready_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/documents"
)

// installed is a version of the database operator, its channel and the catalog that it is from.
type installed struct{ version, channel, catalog string }

// cluster returns the facts of a cluster of 4.16.2 that has the resources which the registry serves, with
// others in its export: JSON, "" for none.
func (f *fixture) cluster(others string, operators ...installed) *state.Facts {
	f.Helper()
	items := []string{`{"apiVersion":"config.openshift.io/v1","kind":"ClusterVersion","metadata":{"name":"version"},"spec":{"channel":"eus-4.18"},
		"status":{"desired":{"version":"4.16.2"},"history":[{"state":"Completed","version":"4.16.2"},{"state":"Completed","version":"4.15.9"}]}}`,
		`{"apiVersion":"operators.coreos.com/v1alpha1","kind":"ClusterServiceVersion","metadata":{"namespace":"openshift-operator-lifecycle-manager","name":"packageserver"},"spec":{"version":"0.0.1-snapshot"}}`,
		`{"apiVersion":"operators.coreos.com/v1alpha1","kind":"ClusterServiceVersion","metadata":{"namespace":"other","name":"copy","labels":{"olm.copiedFrom":"db"}},"spec":{"version":"1.0.0"}}`}
	if others != "" {
		items = append(items, others)
	}
	served := documents.Resources{Tags: f.Tags, Registry: registry, Log: slog.New(slog.DiscardHandler)}
	files, err := served.Files(f.Context())
	f.must(err)
	for _, file := range files {
		for document := range bytes.SplitSeq(file.Data, []byte("---\n")) {
			if text, err := yaml.YAMLToJSON(document); err == nil && len(text) > 10 {
				items = append(items, string(text))
			}
		}
	}
	for _, o := range operators {
		items = append(items, fmt.Sprintf(`{"apiVersion":"operators.coreos.com/v1alpha1","kind":"CatalogSource","metadata":{"namespace":"openshift-marketplace","name":"of-the-cluster"},"spec":{"image":%q}}`, o.catalog),
			fmt.Sprintf(`{"apiVersion":"operators.coreos.com/v1alpha1","kind":"Subscription","metadata":{"namespace":"db","name":"db"},
			"spec":{"name":"sample-database","channel":%q,"source":"of-the-cluster","sourceNamespace":"openshift-marketplace"},"status":{"installedCSV":"sample-database.v%s"}}`, o.channel, o.version),
			fmt.Sprintf(`{"apiVersion":"operators.coreos.com/v1alpha1","kind":"ClusterServiceVersion","metadata":{"namespace":"db","name":"sample-database.v%s"},"spec":{"version":%q},"status":{"phase":"Succeeded"}}`, o.version, o.version))
	}
	facts, err := state.Read(strings.NewReader(`{"apiVersion":"v1","items":[` + strings.Join(items, ",") + `],"kind":"List"}`))
	f.must(err)
	var again *state.Facts // as the registry gets them
	f.must(json.Unmarshal(f.json(facts), &again))
	return again
}
