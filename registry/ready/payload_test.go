package ready_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// made is a release that no vendor has made.
type made struct {
	version    string
	components map[string]string
	policy     string
}

// TestJudge_boots_payload has releases that lack something themselves.
func TestJudge_boots_payload(t *testing.T) {
	const vendor = "quay.io/openshift-release-dev/ocp-v4.0-art-dev"
	for name, tc := range map[string]struct {
		change func(f *fixture, m *made)
		code   string
		text   string
	}{
		"nothing": {func(*fixture, *made) {}, "", ""},
		"no boot image": {func(_ *fixture, m *made) { delete(m.components, "machine-os-images") },
			"boot-image-absent", "the release has no machine-os-images"},
		"a boot image without the ISO": {func(_ *fixture, m *made) { m.components["machine-os-images"] = m.components["etcd"] },
			"boot-image-absent", "coreos-x86_64.iso"},
		"the boot image of another architecture": {func(f *fixture, m *made) {
			m.components["machine-os-images"] = f.release("4.18.2", "arm64").Components["machine-os-images"]
		}, "boot-image-absent", "coreos-x86_64.iso"},
		"a component that is named by a tag": {func(_ *fixture, m *made) { m.components["etcd"] = vendor + ":etcd" },
			"release-unread", "not named by digest"},
		"a component of a source that was never mirrored": {func(_ *fixture, m *made) {
			m.components["etcd"] = strings.Replace(m.components["etcd"], "ocp-v4.0-art-dev", "ocp-v5.0-art-dev", 1)
		}, "unmapped", "no mirror of this registry"},
		"a policy that cannot be read": {func(_ *fixture, m *made) {
			m.policy = "kind: ClusterImagePolicy\nspec:\n  scopes: [quay.io]\n  policy:\n    rootOfTrust: {policyType: Later}\n"
		}, "policy-unknown", "Later"},
		"no policy, and a version that has one": {func(f *fixture, m *made) {
			m.version = "4.22.0"
			f.record(components, f.tagOf("etcd"), func(about map[string]any) {
				about["origin"] = vendor + "@" + f.component(f.release("4.18.2", "amd64"), "etcd").String()
			})
			m.components["etcd"] = vendor + "@" + f.component(f.release("4.18.2", "amd64"), "etcd").String()
		}, "policy-unknown", "no policy of the release is about etcd"},
		"nothing but what a list says of its images": {func(f *fixture, m *made) {
			child := f.component(f.release("4.18.2", "amd64"), "etcd")
			list := f.json(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []map[string]any{
				{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": child, "size": 1, "platform": map[string]string{"os": "linux", "architecture": "amd64"}},
				{"mediaType": ocispec.MediaTypeImageManifest, "digest": digest.FromString("not here"), "size": 1, "platform": map[string]string{"os": "unknown", "architecture": "unknown"}}}})
			put, err := f.Manifests.Put(f.Context(), components, list, store.PutOptions{})
			f.must(err)
			m.components["etcd"] = strings.Replace(m.components["etcd"], child.String(), put.Digest.String(), 1)
		}, "", ""},
		"no component": {func(_ *fixture, m *made) { m.components = nil }, "release-unread", "names no component"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			m := made{version: "4.18.9", components: maps.Clone(f.release("4.18.2", "amd64").Components)}
			tc.change(f, &m)
			f.put(m)
			v := f.judge(api.ReadyRequest{To: m.version, Architectures: []string{"amd64"}})
			if tc.code == "" {
				if v.Answer != api.ReadyYes {
					t.Errorf("%s\n%s", v.Answer, codes(v))
				}
				return
			}
			if v.Answer != api.ReadyNo || len(v.Reasons) != 1 || v.Reasons[0].Code != tc.code || !strings.Contains(v.Reasons[0].Text, tc.text) || v.Reasons[0].Hint == "" {
				t.Errorf("%s, and not %s %s:\n%s", v.Answer, tc.code, tc.text, codes(v))
			}
		})
	}
}

// tagOf returns a tag of a component.
func (f *fixture) tagOf(name string) string {
	f.Helper()
	tags, err := f.Tags.Of(f.Context(), components, f.component(f.release("4.18.2", "amd64"), name))
	f.must(err)
	return tags[0]
}

// put puts a release, signed with OpenPGP, whose files are a layer upon those of another.
func (f *fixture) put(m made) {
	f.Helper()
	var tags []map[string]any
	for name, ref := range m.components {
		tags = append(tags, map[string]any{"name": name, "from": map[string]string{"kind": "DockerImage", "name": ref}})
	}
	files := map[string][]byte{
		"release-manifests/image-references": f.json(map[string]any{"kind": "ImageStream", "spec": map[string]any{"tags": tags}}),
		"release-manifests/release-metadata": f.json(map[string]any{"kind": "cincinnati-metadata-v0", "version": m.version}),
	}
	if m.policy != "" {
		files["release-manifests/0000_90_openshift-cluster-image-policy.yaml"] = []byte(m.policy)
	}
	layer := f.layer(files)
	from, err := f.Manifests.Get(f.Context(), payloads, f.release("4.18.2", "amd64").Digest)
	f.must(err)
	var body map[string]any
	f.must(json.Unmarshal(from.Body, &body))
	body["layers"] = append(body["layers"].([]any), map[string]any{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest.FromBytes(layer), "size": len(layer)})
	manifest := f.json(body)
	d, tag := digest.FromBytes(manifest), m.version+"-x86_64"
	signed, err := sample.SignRelease(fmt.Appendf(nil, `{"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":%q},"identity":{"docker-reference":%q}}}`,
		d, f.sample.Host()+"/"+sample.ReleaseRepository+":"+tag))
	f.must(err)
	r, err := f.Runs.Begin(f.Context(), "made")
	f.must(err)
	f.must(r.PutBlob(f.Context(), payloads, ocispec.Descriptor{Digest: digest.FromBytes(layer), Size: int64(len(layer))}, bytes.NewReader(layer)))
	_, _, _, err = r.Existing(f.Context(), map[string][]digest.Digest{payloads: f.parts(payloads, from.Digest)}, nil)
	f.must(err)
	f.must(r.PutManifest(f.Context(), payloads, ocispec.Descriptor{MediaType: from.MediaType, Digest: d, Size: int64(len(manifest))}, manifest))
	f.must(r.Tag(f.Context(), map[string]map[string]digest.Digest{payloads: {tag: d}}))
	origin := f.sample.Host() + "/" + sample.ReleaseRepository + "@" + d.String()
	f.must(r.Origins(f.Context(), map[string]map[string]map[string]json.RawMessage{payloads: {tag: {origin: f.json(map[string]any{
		"type": "ocpRelease", "origin": origin, "digest": d, "signature": signed})}}}))
	f.must(r.Commit(f.Context()))
}

func (f *fixture) json(v any) []byte {
	f.Helper()
	text, err := json.Marshal(v)
	f.must(err)
	return text
}

func (f *fixture) layer(files map[string][]byte) []byte {
	f.Helper()
	var all []layers.NewFile
	for name, text := range files {
		all = append(all, layers.NewFile{Name: name, Size: int64(len(text)), Write: func(w io.Writer) error { _, err := w.Write(text); return err }})
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	f.must(layers.Write(z, all))
	f.must(z.Close())
	return b.Bytes()
}
