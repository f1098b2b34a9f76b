package main

import (
	"archive/tar"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

// archiveV1 is an archive as oc-mirror v1 writes it, of images of the upstream. The next one of its
// image set is written with what is new.
type archiveV1 struct {
	*testing.T
	source   string
	mirror   string // that section of the image set, in JSON
	metadata *metadata.Metadata
	files    [][2]string     // names and contents
	links    [][2]string     // names and what they name
	had      map[string]bool // entries, and blobs of those before
	images   []metadata.Association
}

// newArchiveV1 returns an archive. The key that signs its releases is trusted.
func newArchiveV1(t *testing.T, s *mirrorSetup) *archiveV1 {
	a := &archiveV1{T: t, source: s.source, mirror: "{}", metadata: metadata.New(), had: map[string]bool{}}
	key, _ := a.get(sample.SignatureKeyPath)
	if err := os.WriteFile("key.asc", []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OCP_SIGNATURE_VERIFICATION_PK", "key.asc")
	return a
}

func (a *archiveV1) get(path string) (body string, mediaType string) {
	a.Helper()
	response, err := http.Get("http://" + a.source + path)
	if err != nil {
		a.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		a.Fatalf("%s: %s, %v", path, response.Status, err)
	}
	return string(text), response.Header.Get("Content-Type")
}

func (a *archiveV1) add(name, data string) {
	if !a.had[name] {
		a.had[name] = true
		a.files = append(a.files, [2]string{name, data})
	}
}

// image adds an image, and returns its digest. Its name at its source is name, or that of the
// upstream.
func (a *archiveV1) image(kind, repository, ref, path, tag, name string) string {
	a.Helper()
	body, _ := a.get("/v2/" + repository + "/manifests/" + ref)
	d := digest.FromString(body)
	of := metadata.Association{Name: d.String(), Path: path, ID: d, TagSymlink: tag, Type: kind}
	if tag != "" {
		if name == "" {
			name = a.source + "/" + repository
		}
		of.Name = name + "@" + d.String()
		a.links = append(a.links, [2]string{"v2/" + path + "/manifests/" + tag, d.String()})
	}
	var m struct {
		Manifests, Layers []ocispec.Descriptor
		Config            ocispec.Descriptor
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		a.Fatal(err)
	}
	for _, child := range m.Manifests {
		of.ManifestDigests = append(of.ManifestDigests, child.Digest)
		a.image(kind, repository, child.Digest.String(), path, "", "")
	}
	if m.Manifests == nil {
		for _, b := range append(m.Layers, m.Config) {
			of.LayerDigests = append(of.LayerDigests, b.Digest)
			blob, _ := a.get("/v2/" + repository + "/blobs/" + b.Digest.String())
			a.add("blobs/"+b.Digest.String(), blob)
		}
	}
	a.add("v2/"+path+"/manifests/"+d.String(), body)
	a.images = append(a.images, of)
	return d.String()
}

// release adds a payload, its signature, and those components that version 1 tags for it.
func (a *archiveV1) release(tag string, components ...string) {
	a.Helper()
	payload := digest.Digest(a.image("ocpRelease", sample.ReleaseRepository, tag, "openshift/release-images", tag, ""))
	signed, _ := a.get(sample.SignaturePath(payload))
	a.add("release-signatures/signature-sha256-"+payload.Encoded()[:16]+".json", fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","binaryData":{"sha256-%s-1":%q}}`,
		payload.Encoded(), base64.StdEncoding.EncodeToString([]byte(signed))))
	content, err := sample.New(a.source)
	if err != nil {
		a.Fatal(err)
	}
	for _, r := range content.Releases() {
		for _, name := range components {
			if r.Tag == tag {
				_, d, _ := strings.Cut(r.Components[name], "@")
				a.image("ocpReleaseContent", sample.ComponentRepository, d, "openshift/release", tag+"-"+name, "")
			}
		}
	}
}

// catalog adds the catalog of the upstream under a name, with some bundles of a channel, and the
// images of those that are not left out.
func (a *archiveV1) catalog(name, channel string, bundles []string, without string) {
	a.Helper()
	dir := "catalogs/" + name + "/"
	list, _ := a.get("/v2/" + sample.CatalogRepository + "/manifests/" + sample.CatalogTag)
	a.files = append(a.files, [2]string{dir + "layout/index.json", list}, [2]string{dir + "layout/oci-layout", `{"imageLayoutVersion":"1.0.0"}`}, [2]string{dir + "include-config.gob", "gob"})
	var all ocispec.Index
	if err := json.Unmarshal([]byte(list), &all); err != nil {
		a.Fatal(err)
	}
	for _, member := range all.Manifests {
		body, _ := a.get("/v2/" + sample.CatalogRepository + "/manifests/" + member.Digest.String())
		var m ocispec.Manifest
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			a.Fatal(err)
		}
		a.add(dir+"layout/blobs/sha256/"+member.Digest.Encoded(), body)
		for _, b := range append(m.Layers, m.Config) {
			blob, _ := a.get("/v2/" + sample.CatalogRepository + "/blobs/" + b.Digest.String())
			a.add(dir+"layout/blobs/sha256/"+b.Digest.Encoded(), blob)
		}
	}
	pkg, version, _ := strings.Cut(bundles[len(bundles)-1], ".")
	entries := []map[string]string{{"name": bundles[0]}}
	for n := range bundles[1:] {
		entries = append(entries, map[string]string{"name": bundles[n+1], "replaces": bundles[n]})
	}
	index := a.json(map[string]any{"schema": "olm.package", "name": pkg, "defaultChannel": channel}) +
		a.json(map[string]any{"schema": "olm.channel", "name": channel, "package": pkg, "entries": entries})
	for _, b := range bundles {
		index += a.bundle(pkg, b, b == without)
	}
	a.files = append(a.files, [2]string{dir + "index/index.json", index})
	if version == "" {
		a.Fatal(bundles)
	}
}

// bundle adds the images of a bundle, and returns its entry of a catalog.
func (a *archiveV1) bundle(pkg, name string, lacksOne bool) string {
	a.Helper()
	version := strings.TrimPrefix(name, pkg+".")
	body, _ := a.get("/v2/operators/" + pkg + "-bundle/manifests/" + version)
	image := a.source + "/operators/" + pkg + "-bundle@" + digest.FromString(body).String()
	operator := a.source + "/operators/" + pkg + "-operator:" + version
	if !lacksOne {
		a.image("operatorBundle", "operators/"+pkg+"-bundle", version, "operators/"+pkg+"-bundle", catalog.TagV1(image), "")
	}
	a.image("operatorRelatedImage", "operators/"+pkg+"-operator", version, "operators/"+pkg+"-operator", version, "")
	return a.json(map[string]any{"schema": "olm.bundle", "name": name, "package": pkg, "image": image, "relatedImages": []map[string]string{{"name": "", "image": image}, {"name": "op", "image": operator}},
		"properties": []map[string]any{{"type": "olm.package", "value": map[string]string{"packageName": pkg, "version": version[1:]}}}})
}

func (a *archiveV1) json(v any) string {
	text, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		a.Fatal(err)
	}
	return string(text) + "\n"
}

// write writes the archive in chunks, and begins the next one.
func (a *archiveV1) write(dir string, chunks int) {
	a.Helper()
	a.metadata = a.metadata.Next(metadata.PastMirror{Mirror: []byte(a.mirror), Associations: a.images}, append(a.metadata.PastAssociations, a.images...))
	files := append([][2]string{{"publish/.metadata.json", a.json(a.metadata)}}, a.files...)
	err := os.MkdirAll(dir, 0o700)
	for n := range chunks {
		out, failed := os.Create(filepath.Join(dir, fmt.Sprintf("mirror_seq%d_%06d.tar", a.metadata.PastMirror.Sequence, n)))
		w := tar.NewWriter(out)
		for i, f := range files {
			if i*chunks/len(files) == n {
				_, body := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f[0], Size: int64(len(f[1])), Mode: 0o644}), []byte(f[1])
				_, failed2 := w.Write(body)
				err = errors.Join(err, failed2)
			}
		}
		for _, l := range a.links {
			if n == chunks-1 {
				err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: l[0], Linkname: l[1], Mode: 0o777}))
			}
		}
		err = errors.Join(err, failed, w.Close(), out.Close())
	}
	if err != nil {
		a.Fatal(err)
	}
	a.files, a.links, a.images = nil, nil, nil
}
