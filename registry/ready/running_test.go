package ready_test

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// A cluster takes no update to a release of another architecture, and what it runs decides which is meant.
func TestJudge_architectureOfTheCluster(t *testing.T) {
	f := newFixture(t)
	for _, tc := range []struct{ runs, to, arch, reason, judged string }{
		{runs: "amd64", to: "4.17.2", judged: "amd64"},
		{runs: "arm64", to: "4.17.2", judged: "arm64"},
		{runs: "arm64", to: "4.17.2-x86_64", reason: "architecture-other", judged: "amd64"},
		{runs: "arm64", to: "4.17.2", arch: "amd64", reason: "architecture-other", judged: "amd64"},
		{runs: "amd64", to: "4.17.2-multi", reason: "architecture-other", judged: "multi"},
		{runs: "amd64", to: f.release("4.17.2", "arm64").Digest.String(), reason: "architecture-other", judged: "arm64"},
		{runs: "multi", to: "4.17.2", judged: "multi"},
		{runs: "multi", to: "4.17.2", arch: "amd64", judged: "multi"},
	} {
		c := f.cluster("")
		c.Multi, c.Channel = tc.runs == "multi", "stable-4.17"
		c.Releases = []state.Release{{Version: "4.16.2", Image: "quay.io/o/r@" + f.release("4.16.2", tc.runs).Digest.String()}}
		q := api.ReadyRequest{To: tc.to, Cluster: c}
		if tc.arch != "" {
			q.Architectures = []string{tc.arch}
		}
		v := f.judge(q)
		if got := codes(v); v.Architecture != tc.judged || (v.Answer == api.ReadyYes) != (tc.reason == "") || !strings.HasPrefix(got, tc.reason) {
			t.Errorf("%+v: %s for %s\n%s", tc, v.Answer, v.Architecture, got)
		}
	}
}

// What a cluster tells of its own state counts: it refuses updates to another minor version itself.
func TestJudge_conditionsOfTheCluster(t *testing.T) {
	f := newFixture(t)
	for _, tc := range []struct{ from, to, notUpgradeable, failing, answer, said string }{
		{"4.16.2", "4.17.2", "AdminAckRequired: acknowledge it", "", api.ReadyNo, "cluster-not-upgradeable clusterversion (the cluster refuses updates to another minor version: AdminAckRequired: acknowledge it)"},
		{"4.18.1", "4.18.2", "AdminAckRequired: acknowledge it", "", api.ReadyYes, ""},
		{"4.18.1", "4.18.2", "", "ClusterOperatorDegraded: etcd", api.ReadyRisks, "cluster-failing clusterversion (the cluster is failing: ClusterOperatorDegraded: etcd)"},
	} {
		c := f.cluster("")
		c.Version, c.Channel, c.NotUpgradeable, c.Failing = tc.from, "", tc.notUpgradeable, tc.failing
		v := f.judge(api.ReadyRequest{To: tc.to + "-x86_64", Cluster: c})
		if v.Answer != tc.answer || !strings.HasPrefix(codes(v), tc.said) {
			t.Errorf("%+v: %s\n%s", tc, v.Answer, codes(v))
		}
	}
}
