package image_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

var (
	dA   = digest.FromString("a")
	dB   = digest.FromString("b")
	dC   = digest.SHA512.FromString("c")
	desc = func(mediaType string, d digest.Digest) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, mediaType, d)
	}
	configA = desc(ocispec.MediaTypeImageConfig, dA)
	layerB  = desc(ocispec.MediaTypeImageLayerGzip, dB)
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, mediaType, body string
		refs                  string // kind:digest… in order
		need                  []digest.Digest
		artifactType          string
		subject               digest.Digest
	}{
		{
			name: "OCI image", mediaType: ocispec.MediaTypeImageManifest,
			body: `{"schemaVersion":2,"config":` + configA + `,"layers":[` + layerB + `,` + layerB + `]}`,
			refs: "config:a layer:b layer:b", need: []digest.Digest{dA, dB}, artifactType: ocispec.MediaTypeImageConfig,
		}, {
			name: "Docker image with a foreign layer", mediaType: image.MediaTypeDockerManifest,
			body: `{"schemaVersion":2,"mediaType":"` + image.MediaTypeDockerManifest + `","config":` + configA + `,"layers":[` +
				desc("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", dB) + `]}`,
			refs: "config:a layer:b", need: []digest.Digest{dA}, artifactType: ocispec.MediaTypeImageConfig,
		}, {
			name: "OCI image with a nondistributable layer", mediaType: ocispec.MediaTypeImageManifest,
			body: `{"config":` + configA + `,"layers":[` + desc("application/vnd.oci.image.layer.nondistributable.v1.tar", dB) + `]}`,
			refs: "config:a layer:b", need: []digest.Digest{dA}, artifactType: ocispec.MediaTypeImageConfig,
		}, {
			name: "layer that has urls", mediaType: ocispec.MediaTypeImageManifest,
			body: `{"config":` + configA + `,"layers":[{"mediaType":"x/y","digest":"` + dB.String() + `","size":1,"urls":["https://e.example/"]}]}`,
			refs: "config:a layer:b", need: []digest.Digest{dA}, artifactType: ocispec.MediaTypeImageConfig,
		}, {
			name: "no layers, as Go clients write it", mediaType: ocispec.MediaTypeImageManifest,
			body: `{"config":` + configA + `,"layers":null}`,
			refs: "config:a", need: []digest.Digest{dA}, artifactType: ocispec.MediaTypeImageConfig,
		}, {
			name: "sparse index", mediaType: ocispec.MediaTypeImageIndex,
			body: `{"schemaVersion":2,"manifests":[` + desc(ocispec.MediaTypeImageManifest, dA) + `]}`,
			refs: "child:a",
		}, {
			name: "Docker list, media type only in the body",
			body: `{"schemaVersion":2,"mediaType":"` + image.MediaTypeDockerList + `","manifests":[]}`,
		}, {
			name: "artifact", mediaType: ocispec.MediaTypeImageManifest + "; charset=utf-8",
			body: `{"artifactType":"application/sbom","config":` + desc(ocispec.MediaTypeEmptyJSON, dA) + `,"layers":[],"subject":` + desc(ocispec.MediaTypeImageManifest, dB) + `}`,
			refs: "config:a", need: []digest.Digest{dA}, artifactType: "application/sbom", subject: dB,
		}, {
			name: "withdrawn artifact manifest", mediaType: "application/vnd.oci.artifact.manifest.v1+json",
			body: `{"artifactType":"x/y","blobs":[` + layerB + `]}`,
			refs: "layer:b", need: []digest.Digest{dB}, artifactType: "x/y",
		}, {
			name: "unknown media type", mediaType: "application/vnd.nobody.knows+json",
			body: `{"hello":["world"],"layers":[` + desc("x/y", dC) + `]}`,
			refs: "layer:c", need: []digest.Digest{dC},
		}, {
			name: "names of fields have one case", mediaType: "application/vnd.nobody.knows+json",
			body: `{"Layers":[` + layerB + `]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := image.Parse(test.mediaType, []byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			var refs []string
			for _, r := range p.References {
				name := map[digest.Digest]string{dA: "a", dB: "b", dC: "c"}[r.Digest]
				refs = append(refs, string(r.Kind)+":"+name)
			}
			if got := strings.Join(refs, " "); got != test.refs {
				t.Errorf("refs %q, want %q", got, test.refs)
			}
			var got []digest.Digest
			for _, r := range p.Required() {
				got = append(got, r.Digest)
			}
			if !slices.Equal(got, test.need) {
				t.Errorf("must be held: %v, want %v", got, test.need)
			}
			if p.ArtifactType != test.artifactType || p.Subject != test.subject {
				t.Errorf("artifact type %q, subject %q", p.ArtifactType, p.Subject)
			}
			if got := p.EffectiveType(); strings.Contains(got, ";") || got == "" {
				t.Errorf("media type %q", got)
			}
		})
	}
}

func TestParse_Refused(t *testing.T) {
	oci := ocispec.MediaTypeImageManifest
	for _, test := range []struct{ name, mediaType, body, why string }{
		{"empty", oci, ``, "not a JSON object"},
		{"not JSON, of a type that nobody knows", "text/plain", `hello`, "not a JSON object"},
		{"a list", oci, `[]`, "not a JSON object"},
		{"null", oci, `null`, "null"},
		{"rubbish after it", oci, `{"config":` + configA + `,"layers":[]} x`, "not a JSON object"},
		{"no media type", "", `{"config":` + configA + `,"layers":[]}`, "neither"},
		{"bad media type", "a b/c;;", `{}`, "media type"},
		{"contradiction", oci, `{"mediaType":"` + image.MediaTypeDockerManifest + `","config":` + configA + `,"layers":[]}`, "says of itself"},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		{"image and index at once", oci, `{"config":` + configA + `,"layers":[],"manifests":[]}`, "of an index"},
		{"image without config", oci, `{"layers":[]}`, "config and layers"},
		{"image whose config is null", oci, `{"config":null,"layers":[]}`, "config and layers"},
		{"image without layers", oci, `{"config":` + configA + `}`, "config and layers"},
		{"index without manifests", ocispec.MediaTypeImageIndex, `{}`, "has manifests"},
		{"no digest", oci, `{"config":{"mediaType":"x/y","size":1},"layers":[]}`, "config has no digest"},
		{"no media type of a layer", oci, `{"config":` + configA + `,"layers":[{"digest":"` + dA.String() + `","size":1}]}`, "layers[0] has no mediaType"},
		{"negative size", oci, `{"config":{"mediaType":"x/y","size":-1,"digest":"` + dA.String() + `"},"layers":[]}`, "size -1"},
		{"md5", oci, `{"config":` + desc("x/y", "md5:d41d8cd98f00b204e9800998ecf8427e") + `,"layers":[]}`, "digest"},
		{"sha384", oci, `{"config":` + desc("x/y", digest.SHA384.FromString("")) + `,"layers":[]}`, "only sha256 and sha512"},
		{"path as digest", oci, `{"config":` + desc("x/y", "sha256:../../../etc/passwd") + `,"layers":[]}`, "digest"},
		{"capitals in a digest", oci, `{"config":` + desc("x/y", digest.Digest("sha256:"+strings.ToUpper(dA.Encoded()))) + `,"layers":[]}`, "digest"},
		{"layers that are no list", oci, `{"config":` + configA + `,"layers":{}}`, "field layers"},
		{"subject without digest", oci, `{"config":` + configA + `,"layers":[],"subject":{}}`, "subject"},
		{"annotations that are no strings", oci, `{"config":` + configA + `,"layers":[],"annotations":{"a":1}}`, "annotations"},
		{"too large", oci, `{"config":` + configA + `,"layers":[],"x":"` + strings.Repeat("x", image.MaxManifestBytes) + `"}`, "more than"},
		{"too deep", oci, strings.Repeat(`{"a":`, 1<<19), "not a JSON object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := image.Parse(test.mediaType, []byte(test.body))
			var invalid *image.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want an InvalidError", err)
			}
			if !strings.Contains(err.Error(), test.why) {
				t.Errorf("got %q, want it to say %q", err, test.why)
			}
			if len(err.Error()) > 500 {
				t.Errorf("the message has %d characters", len(err.Error()))
			}
		})
	}
}

func FuzzManifest(f *testing.F) {
	for _, body := range []string{
		`{}`, `null`, `[]`, `{"config":null}`,
		`{"schemaVersion":2,"config":` + configA + `,"layers":[` + layerB + `]}`,
		`{"schemaVersion":2,"manifests":[` + desc(ocispec.MediaTypeImageManifest, dC) + `]}`,
		`{"artifactType":"x/y","subject":` + configA + `,"blobs":[` + layerB + `],"annotations":{"a":"b"}}`,
	} {
		f.Add(ocispec.MediaTypeImageManifest, []byte(body))
		f.Add("application/vnd.nobody.knows+json", []byte(body))
	}
	f.Fuzz(func(t *testing.T, mediaType string, body []byte) {
		p, err := image.Parse(mediaType, body)
		if err != nil {
			var invalid *image.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("%v is no InvalidError", err)
			}
			return
		}
		for _, r := range p.References {
			if image.CheckDigest(r.Digest) != nil || r.Size < 0 || r.MediaType == "" {
				t.Fatalf("accepted %+v", r)
			}
		}
		if p.EffectiveType() == "" || p.Subject != "" && image.CheckDigest(p.Subject) != nil {
			t.Fatalf("accepted %+v", p)
		}
	})
}

// What clients read in different ways is refused when it is put. What is held
// already can still be read.
func TestParseNew_severalMeanings(t *testing.T) {
	for name, body := range map[string]string{
		"a field in upper case":      `{"Layers":[` + layerB + `]}`,
		"a field in both cases":      `{"layers":[` + layerB + `],"LAYERS":[]}`,
		"the subject":                `{"layers":[],"Subject":` + desc("x/y", dA) + `}`,
		"two sizes":                  `{"layers":[` + layerB + `,` + strings.Replace(layerB, `"size":`, `"size":9`, 1) + `]}`,
		"two sizes, config and list": `{"config":` + strings.Replace(layerB, `"size":`, `"size":9`, 1) + `,"layers":[` + layerB + `]}`,
	} {
		if _, err := image.Parse("x/y", []byte(body)); err != nil {
			t.Errorf("%s: held: %v", name, err)
		}
		if _, err := image.ParseNew("x/y", []byte(body)); !errors.As(err, new(*image.InvalidError)) {
			t.Errorf("%s: put: got %v", name, err)
		}
	}
	for name, body := range map[string]string{
		"a field of its own":   `{"layers":[` + layerB + `],"Layered":1,"annotations":{"Layers":"x"}}`,
		"the same layer":       `{"layers":[` + layerB + `,` + layerB + `]}`,
		"the empty descriptor": `{"config":` + layerB + `,"layers":[` + layerB + `]}`,
	} {
		if _, err := image.ParseNew("x/y", []byte(body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A foreign layer need not exist where its manifest does; a mirror copies it unless
// it names another place.
func TestManifest_foreignLayers(t *testing.T) {
	const layer, foreign = ocispec.MediaTypeImageLayerGzip, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	d := digest.FromString
	elsewhere := func(mediaType, name string) string {
		return strings.Replace(desc(mediaType, d(name)), "}", `,"urls":["https://example.com/x"]}`, 1)
	}
	m, err := image.ParseNew(ocispec.MediaTypeImageManifest, []byte(`{"config":`+configA+`,"layers":[`+strings.Join([]string{
		layerB, layerB, elsewhere(foreign, "foreign"), desc("application/vnd.oci.image.layer.nondistributable.v1.tar", d("nowhere else")), elsewhere(layer, "elsewhere"),
	}, ",")+`],"blobs":[`+desc(layer, d("artifact"))+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		got  []image.Reference
		want []digest.Digest
	}{
		"required": {m.Required(), []digest.Digest{dA, dB, d("artifact")}},
		"copied":   {m.Copied(), []digest.Digest{dA, dB, d("nowhere else"), d("artifact")}},
	} {
		var got []digest.Digest
		for _, r := range c.got {
			got = append(got, r.Digest)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestDetectMediaType(t *testing.T) {
	for body, want := range map[string]string{
		`{"mediaType":"x/y","manifests":[]}`: "x/y",
		`{"manifests":[]}`:                   ocispec.MediaTypeImageIndex,
		`{"config":{}}`:                      ocispec.MediaTypeImageManifest,
		`{"schemaVersion":1}`:                image.MediaTypeDockerSchema1 + "+json",
		`{"manifests":null,"config":null}`:   "",
		`{"errors":[]}`:                      "",
		`{"mediaType":1,"config":{}}`:        "",
		`<html>`:                             "",
	} {
		if got := image.DetectMediaType([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
