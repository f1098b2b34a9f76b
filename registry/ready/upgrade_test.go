package ready_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/ready"
)

func way(v api.Verdict) string {
	text := v.Channel + ":"
	for _, h := range v.Path {
		text += fmt.Sprintf(" %s-%s", h.From, h.To)
	}
	return text
}

func TestJudge_upgrade(t *testing.T) {
	f := newFixture(t)
	cluster := f.cluster("")
	for _, tc := range []struct{ from, to, channel, arch, answer, way, risk string }{
		{from: "4.16.2", to: "4.17.2", arch: "amd64", answer: api.ReadyYes, way: "stable-4.17: 4.16.2-4.17.2"},
		{from: "4.16.2", to: "4.18.2", arch: "multi", answer: api.ReadyYes, way: "eus-4.18: 4.16.2-4.17.2 4.17.2-4.18.1 4.18.1-4.18.2"},
		{from: "4.18.1", to: "4.18.2", arch: "amd64", answer: api.ReadyYes, way: "stable-4.18: 4.18.1-4.18.2"},
		{from: "4.18.1", to: "4.18.2", arch: "amd64", channel: "candidate-4.18", answer: api.ReadyYes, way: "candidate-4.18: 4.18.1-4.18.2"},
	} {
		cluster.Version, cluster.Channel = tc.from, ""
		v := f.judge(api.ReadyRequest{From: tc.from, To: tc.to, Channel: tc.channel, Architectures: []string{tc.arch}, Cluster: cluster})
		if v.Answer != tc.answer || way(v) != tc.way || len(v.Basis.Releases) != len(v.Path) || v.Basis.Graph == nil {
			t.Errorf("%+v: %s by %s\n%s", tc, v.Answer, way(v), codes(v))
		}
	}
	for want, q := range map[string]api.ReadyRequest{
		`"4.18" is not a version that a cluster runs`: {From: "4.18", To: "4.18.2-multi"},
		"4.18.2 is no update of 4.18.2":               {From: "4.18.2", To: "4.18.2-multi"},
		"4.18.1 is no update of 4.18.2":               {From: "4.18.2", To: f.release("4.18.1", "multi").Digest.String()},
		"4.20.1 is no update of 4.20.3":               {From: "4.20.3", To: "4.20.1"}, // neither is here
		`"x" is not a version that a cluster runs`:    {From: "x", To: "4.20.3"},
		`"x y;z" is not a channel`:                    {Channel: "x y;z", To: "4.20.3"},
		`"../../etc/passwd" is not a release`:         {To: "../../etc/passwd"},
	} {
		if v, err := f.ask(q); err == nil || err.Error() != want {
			t.Errorf("%+v has the verdict %s, %v", q, v.Answer, err)
		}
	}
}

// TestJudge_upgrade_missing takes one thing away at a time.
func TestJudge_upgrade_missing(t *testing.T) {
	drop := func(f *fixture, version string) {
		f.must(f.Manifests.Delete(f.Context(), payloads, f.release(version, "amd64").Digest))
	}
	for name, tc := range map[string]struct {
		q           api.ReadyRequest
		break_      func(f *fixture)
		answer      string
		code, where string
		cure        string // what is in the image set
	}{
		"the graph data": {answer: api.ReadyNo, code: "graph-absent", where: registry, cure: "graph: true",
			break_: func(f *fixture) { f.must(f.Tags.Delete(f.Context(), "openshift/graph-image", "latest")) }},
		"the release that the cluster runs": {answer: api.ReadyNo, code: "from-absent", where: "4.16.2", cure: "minVersion: 4.16.2\n      maxVersion: 4.18.2",
			break_: func(f *fixture) { drop(f, "4.16.2") }},
		"a release on the way": {answer: api.ReadyNo, code: "path-absent", where: "eus-4.18", cure: "minVersion: 4.16.2\n      maxVersion: 4.18.2",
			break_: func(f *fixture) { drop(f, "4.17.2") }},
		"the way without risks": {answer: api.ReadyRisks, code: "conditional-update", where: "4.17.2 → 4.18.2",
			break_: func(f *fixture) { drop(f, "4.18.1") }},
		"the release to upgrade to": {answer: api.ReadyNo, code: "release-absent", where: "4.18.2", cure: "maxVersion: 4.18.2",
			break_: func(f *fixture) { drop(f, "4.18.2") }},
		"the channel": {q: api.ReadyRequest{Channel: "stable-4.18"}, answer: api.ReadyNo, code: "path-absent", where: "channel stable-4.18", break_: func(*fixture) {}},
		"a component of a release on the way": {answer: api.ReadyNo, code: "image-absent", where: components + "@", cure: "minVersion: 4.17.2\n      maxVersion: 4.17.2",
			break_: func(f *fixture) {
				f.must(f.Manifests.Delete(f.Context(), components, f.component(f.release("4.17.2", "amd64"), "hyperkube")))
			}},
		"the signature of a release on the way": {answer: api.ReadyNo, code: "release-unsigned", where: "ocp-release@", cure: "minVersion: 4.18.1\n",
			break_: func(f *fixture) {
				f.record(payloads, "4.18.1-x86_64", func(about map[string]any) { delete(about, "signature") })
			}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tc.q.Cluster = f.cluster("")
			tc.q.Cluster.Channel = ""
			tc.break_(f)
			tc.q.From, tc.q.To, tc.q.Architectures = "4.16.2", "4.18.2", []string{"amd64"}
			v := f.judge(tc.q)
			all := append(v.Reasons, v.Risks...)
			if v.Answer != tc.answer || len(all) != 1 || all[0].Code != tc.code || !strings.Contains(all[0].Where, tc.where) || all[0].Hint == "" {
				t.Fatalf("%s, and not %s %s:\n%s", v.Answer, tc.code, tc.where, codes(v))
			}
			text, err := ready.ImageSet(v)
			if tc.cure == "" {
				if err == nil {
					t.Errorf("it is cured by\n%s", text)
				}
				return
			}
			f.must(err)
			if _, err := imageset.Parse("cure.yaml", text); err != nil || !strings.Contains(string(text), tc.cure) {
				t.Errorf("it is cured by %v\n%s", err, text)
			}
		})
	}
}
