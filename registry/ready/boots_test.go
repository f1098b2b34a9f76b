package ready_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/ready"
	"github.com/mirror-appliance/appliance/registry/store"
)

func TestJudge_boots(t *testing.T) {
	f := newFixture(t)
	for _, q := range []api.ReadyRequest{
		{To: "4.18.2", Architectures: []string{"amd64"}}, {To: "4.18.2-x86_64"}, {To: "4.18.2-multi"}, {To: "4.16.2", Architectures: []string{"multi"}},
		{To: "4.18.2", Architectures: []string{"amd64", "aarch64"}}, {To: f.release("4.18.2", "arm64").Digest.String()},
		{To: "4.18.2", Architectures: []string{"multi", "arm64"}, Content: true}, {To: "4.18.2-multi", Architectures: []string{"amd64"}},
	} {
		v := f.judge(q)
		if v.Answer != api.ReadyYes {
			t.Errorf("%+v: %s\n%s", q, v.Answer, codes(v))
		}
		if v.Images != 10 || v.Signatures < 9 || v.Blobs < 12 || v.ContentRead != q.Content || len(v.Basis.Releases) != 1 {
			t.Errorf("%+v: %+v", q, v)
		}
		if q.To == "4.18.2-multi" && q.Architectures == nil && v.Manifests != 27 {
			t.Errorf("of a release for two architectures %d manifests were looked at", v.Manifests)
		}
	}
	for _, q := range []api.ReadyRequest{{To: "4.18.2"}, {To: "4.18"}, {To: "4.18.2", Architectures: []string{"x86"}}, {To: "4.18.2-x86_64", Architectures: []string{"arm64"}}} {
		if v, err := f.ask(q); err == nil {
			t.Errorf("%+v has the verdict %s", q, v.Answer)
		}
	}
}

// TestJudge_ends has a verdict tell what it reads, and end with its context at each step.
func TestJudge_ends(t *testing.T) {
	f := newFixture(t)
	q := api.ReadyRequest{To: "4.18.2-multi", Content: true, Cluster: f.cluster("", installed{"1.0.0", "stable", registry + "/" + index + ":v4.18"})}
	for _, step := range []func(api.ReadyProgress) bool{
		func(p api.ReadyProgress) bool { return strings.HasPrefix(p.Reads, "the releases") },
		func(p api.ReadyProgress) bool { return p.Release == "4.18.2" && p.Images == 3 },
		func(p api.ReadyProgress) bool { return p.Reads == "catalog "+index+":v4.18" },
		func(p api.ReadyProgress) bool { return p.Reads == "" && p.Bytes > 0 },
	} {
		ctx, end := context.WithCancel(f.Context())
		steps := 0
		v, err := f.judged(ctx, q, func(p api.ReadyProgress) {
			if steps > 0 || step(p) {
				steps++
				end()
			}
		})
		if !errors.Is(err, context.Canceled) || steps != 1 {
			t.Errorf("after %d steps more: %v, %s", steps, err, v.Answer)
		}
		end()
	}
}

// TestJudge_boots_missing takes one thing away at a time, and has the one reason for a no.
func TestJudge_boots_missing(t *testing.T) {
	amd64, multi := []string{"amd64"}, []string{"multi"}
	for name, tc := range map[string]struct {
		archs   []string
		break_  func(f *fixture)
		code    string
		where   string
		incured bool
		change  func(q *api.ReadyRequest)
	}{
		"the release": {archs: amd64, code: "release-absent", where: "4.18.2",
			break_: func(f *fixture) {
				f.must(f.Manifests.Delete(f.Context(), payloads, f.release("4.18.2", "amd64").Digest))
			}},
		"the release for an architecture": {archs: []string{"multi", "s390x"}, code: "platform-absent", where: "ocp-release@", incured: true, break_: func(*fixture) {}},
		"a layer of the release": {archs: amd64, code: "release-absent", where: "4.18.2",
			break_: func(f *fixture) { f.lose(payloads, f.release("4.18.2", "amd64").Digest, 3) }},
		"a layer of the release that was read": {archs: amd64, code: "blob-absent", where: payloads + "@",
			break_: func(f *fixture) {
				f.judge(api.ReadyRequest{To: "4.18.2", Architectures: amd64})
				f.lose(payloads, f.release("4.18.2", "amd64").Digest, 3)
			}},
		"an image of the list of the release": {archs: multi, code: "image-absent", where: payloads + "@",
			break_: func(f *fixture) {
				f.must(f.Manifests.Delete(f.Context(), payloads, f.parts(payloads, f.release("4.18.2", "multi").Digest)[1]))
			}},
		"a component": {archs: amd64, code: "image-absent", where: components + "@",
			break_: func(f *fixture) {
				f.must(f.Manifests.Delete(f.Context(), components, f.component(f.release("4.18.2", "amd64"), "etcd")))
			}},
		"a component for one architecture": {archs: multi, code: "image-absent", where: components + "@",
			break_: func(f *fixture) {
				f.must(f.Manifests.Delete(f.Context(), components, f.parts(components, f.component(f.release("4.18.2", "multi"), "etcd"))[1]))
			}},
		"a layer of a component": {archs: amd64, code: "blob-absent", where: components + "@",
			break_: func(f *fixture) { f.lose(components, f.component(f.release("4.18.2", "amd64"), "hyperkube"), 2) }},
		"the configuration of a component": {archs: amd64, code: "blob-absent", where: components + "@",
			break_: func(f *fixture) { f.lose(components, f.component(f.release("4.18.2", "amd64"), "etcd"), 0) }},
		"the signature of a component": {archs: amd64, code: "signature-absent", where: components + "@",
			break_: func(f *fixture) {
				f.must(f.Tags.Delete(f.Context(), components, signatureOf(f.component(f.release("4.18.2", "amd64"), "etcd"))))
			}},
		"the signature of an image of a list": {archs: multi, code: "signature-absent", where: components + "@",
			break_: func(f *fixture) {
				f.must(f.Tags.Delete(f.Context(), components, signatureOf(f.parts(components, f.component(f.release("4.18.2", "multi"), "etcd"))[0])))
			}},
		"what a signature signs": {archs: amd64, code: "signature-absent", where: components + "@",
			break_: func(f *fixture) {
				m, err := f.Manifests.ByTag(f.Context(), components, signatureOf(f.component(f.release("4.18.2", "amd64"), "etcd")))
				f.must(err)
				f.lose(components, m.Digest, 1)
			}},
		"the signature of the release image": {archs: amd64, code: "signature-absent", where: payloads + "@",
			break_: func(f *fixture) {
				f.must(f.Tags.Delete(f.Context(), payloads, signatureOf(f.release("4.18.2", "amd64").Digest)))
			}},
		"a signature in an attachment": {archs: amd64, code: "signature-absent", where: components + "@",
			break_: func(f *fixture) {
				name := signatureOf(f.component(f.release("4.18.2", "amd64"), "etcd"))
				m, err := f.Manifests.ByTag(f.Context(), components, name)
				f.must(err)
				body := strings.ReplaceAll(string(m.Body), "dev.cosignproject.cosign/signature", "dev.cosignproject.cosign/none")
				_, err = f.Manifests.Put(f.Context(), components, []byte(body), store.PutOptions{MediaType: m.MediaType, Tags: []string{name}})
				f.must(err)
			}},
		"a valid signature": {archs: amd64, code: "signature-invalid", where: components + "@",
			break_: func(f *fixture) {
				other, err := f.Manifests.ByTag(f.Context(), components, signatureOf(f.component(f.release("4.18.2", "amd64"), "pod")))
				f.must(err)
				_, err = f.Manifests.Put(f.Context(), components, other.Body, store.PutOptions{MediaType: other.MediaType,
					Tags: []string{signatureOf(f.component(f.release("4.18.2", "amd64"), "etcd"))}})
				f.must(err)
			}},
		"the OpenPGP signature": {archs: amd64, code: "release-unsigned", where: "ocp-release@",
			break_: func(f *fixture) {
				f.record(payloads, "4.18.2-x86_64", func(about map[string]any) { delete(about, "signature") })
			}},
		"the key of the OpenPGP signature": {archs: amd64, code: "release-signature-invalid", where: "ocp-release@", incured: true, break_: func(*fixture) {},
			change: func(q *api.ReadyRequest) { q.Keys = []byte{} }},
		"what was recorded of components": {archs: amd64, code: "unmapped", where: "/openshift-release-dev/ocp-v4.0-art-dev",
			break_: func(f *fixture) { f.forget(components) }},
		"the first of two places": {archs: amd64, code: "install-place", where: "/openshift-release-dev/ocp-v4.0-art-dev", incured: true,
			break_: func(f *fixture) { f.second("a/openshift/release") }},
		"content that is whole": {archs: amd64, code: "content-damaged", where: components + "@",
			break_: func(f *fixture) {
				name := f.file(f.parts(components, f.component(f.release("4.18.2", "amd64"), "hyperkube"))[2])
				text, err := os.ReadFile(name)
				f.must(err)
				text[len(text)/2] ^= 1
				f.must(os.WriteFile(name, text, 0o600))
			},
			change: func(q *api.ReadyRequest) { q.Content = true }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.T = t
			tc.break_(f)
			q := api.ReadyRequest{To: "4.18.2", Architectures: tc.archs}
			if tc.change != nil {
				tc.change(&q)
			}
			v := f.judge(q)
			if v.Answer != api.ReadyNo || len(v.Reasons) != 1 || v.Reasons[0].Code != tc.code || !strings.Contains(v.Reasons[0].Where, tc.where) || v.Reasons[0].Hint == "" {
				t.Fatalf("%s, and not %s %s:\n%s", v.Answer, tc.code, tc.where, codes(v))
			}
			f.curedBy(v, !tc.incured)
		})
	}
}

// curedBy checks the image set for a verdict.
func (f *fixture) curedBy(v api.Verdict, cured bool) {
	f.Helper()
	text, err := ready.ImageSet(v)
	if !cured {
		if err == nil {
			f.Errorf("content is to cure what it cannot:\n%s", text)
		}
		return
	}
	f.must(err)
	set, err := imageset.Parse("cure.yaml", text)
	f.must(err)
	channels := set.Mirror.Platform.Channels
	if len(channels) != 1 || channels[0].MinVersion != "4.18.2" || channels[0].MaxVersion != "4.18.2" || len(set.Mirror.Platform.Architectures) != 1 || strings.Contains(string(text), "held") {
		f.Errorf("the image set:\n%s", text)
	}
}

func signatureOf(d digest.Digest) string { return "sha256-" + d.Encoded() + ".sig" }

// lose removes the file of a part of a manifest.
func (f *fixture) lose(repository string, d digest.Digest, n int) {
	f.Helper()
	lost := f.parts(repository, d)[n]
	f.must(os.Remove(f.file(lost)))
	if _, err := f.Blobs.Stat(f.Context(), repository, lost); !errors.Is(err, store.ErrNotFound) {
		f.Fatalf("the blob is still there: %v", err)
	}
}

// record changes what was recorded of a tag.
func (f *fixture) record(repository, tag string, change func(about map[string]any)) {
	f.Helper()
	m, err := f.Manifests.ByTag(f.Context(), repository, tag)
	f.must(err)
	recorded, err := f.Tags.OriginsOf(f.Context(), repository, tag, m.Digest)
	f.must(err)
	about := map[string]json.RawMessage{}
	for _, o := range recorded {
		var fields map[string]any
		f.must(json.Unmarshal(o.About, &fields))
		change(fields)
		if about[o.Origin], err = json.Marshal(fields); err != nil {
			f.Fatal(err)
		}
	}
	f.run(repository, map[string]digest.Digest{tag: m.Digest}, map[string]map[string]json.RawMessage{tag: about})
}

// run moves tags in a run, with what it records of them.
func (f *fixture) run(repository string, tags map[string]digest.Digest, origins map[string]map[string]json.RawMessage) {
	f.Helper()
	r, err := f.Runs.Begin(f.Context(), "test")
	f.must(err)
	f.must(r.Tag(f.Context(), map[string]map[string]digest.Digest{repository: tags}))
	if origins != nil {
		f.must(r.Origins(f.Context(), map[string]map[string]map[string]json.RawMessage{repository: origins}))
	}
	f.must(r.Commit(f.Context()))
}

// forget deletes the tags of a repository but for signatures: what was recorded of them goes with them.
func (f *fixture) forget(repository string) {
	f.Helper()
	all, err := f.Tags.Matching(f.Context(), repository, "*")
	f.must(err)
	for _, t := range all {
		if !strings.HasSuffix(t.Name, ".sig") {
			f.must(f.Tags.Delete(f.Context(), repository, t.Name))
		}
	}
}

// second has the image of one component at a second repository too, which mirror sets name first.
func (f *fixture) second(repository string) {
	f.Helper()
	d := f.component(f.release("4.18.2", "amd64"), "pod")
	m, err := f.Manifests.Get(f.Context(), components, d)
	f.must(err)
	for _, blob := range f.parts(components, d) {
		_, err := f.Blobs.Mount(f.Context(), repository, components, blob)
		f.must(err)
	}
	signature, err := f.Manifests.ByTag(f.Context(), components, signatureOf(d))
	f.must(err)
	for _, blob := range f.parts(components, signature.Digest) {
		_, err := f.Blobs.Mount(f.Context(), repository, components, blob)
		f.must(err)
	}
	_, err = f.Manifests.Put(f.Context(), repository, signature.Body, store.PutOptions{MediaType: signature.MediaType, Tags: []string{signatureOf(d)}})
	f.must(err)
	_, err = f.Manifests.Put(f.Context(), repository, m.Body, store.PutOptions{MediaType: m.MediaType, Tags: []string{"pod"}})
	f.must(err)
	tags, err := f.Tags.Of(f.Context(), components, d)
	f.must(err)
	recorded, err := f.Tags.OriginsOf(f.Context(), components, tags[0], d)
	f.must(err)
	about := map[string]json.RawMessage{}
	for _, o := range recorded {
		about[o.Origin] = o.About
	}
	f.run(repository, map[string]digest.Digest{"pod": d}, map[string]map[string]json.RawMessage{"pod": about})
}
