package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
			name: "Docker image with a foreign layer", mediaType: dockerManifest,
			body: `{"schemaVersion":2,"mediaType":"` + dockerManifest + `","config":` + configA + `,"layers":[` +
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
			body: `{"schemaVersion":2,"mediaType":"` + dockerList + `","manifests":[]}`,
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
			p, err := parse(test.mediaType, []byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			var refs []string
			for _, r := range p.refs {
				name := map[digest.Digest]string{dA: "a", dB: "b", dC: "c"}[r.digest]
				refs = append(refs, string(r.kind)+":"+name)
			}
			if got := strings.Join(refs, " "); got != test.refs {
				t.Errorf("refs %q, want %q", got, test.refs)
			}
			var got []digest.Digest
			for _, r := range p.mustBeHeld() {
				got = append(got, r.digest)
			}
			if !slices.Equal(got, test.need) {
				t.Errorf("must be held: %v, want %v", got, test.need)
			}
			if p.artifactType != test.artifactType || p.subject != test.subject {
				t.Errorf("artifact type %q, subject %q", p.artifactType, p.subject)
			}
			if got := p.effectiveType(); strings.Contains(got, ";") || got == "" {
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
		{"contradiction", oci, `{"mediaType":"` + dockerManifest + `","config":` + configA + `,"layers":[]}`, "says of itself"},
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
		{"too large", oci, `{"config":` + configA + `,"layers":[],"x":"` + strings.Repeat("x", MaxManifestBytes) + `"}`, "more than"},
		{"too deep", oci, strings.Repeat(`{"a":`, 1<<19), "not a JSON object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(test.mediaType, []byte(test.body))
			var invalid *InvalidError
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
		p, err := parse(mediaType, body)
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("%v is no InvalidError", err)
			}
			return
		}
		for _, r := range p.refs {
			if checkDigest(r.digest) != nil || r.size < 0 || r.mediaType == "" {
				t.Fatalf("accepted %+v", r)
			}
		}
		if p.effectiveType() == "" || p.subject != "" && checkDigest(p.subject) != nil {
			t.Fatalf("accepted %+v", p)
		}
	})
}

// What clients read in different ways is refused when it is put. What is held already can still be read.
func TestParseNew_severalMeanings(t *testing.T) {
	for name, body := range map[string]string{
		"a field in upper case":      `{"Layers":[` + layerB + `]}`,
		"a field in both cases":      `{"layers":[` + layerB + `],"LAYERS":[]}`,
		"the subject":                `{"layers":[],"Subject":` + desc("x/y", dA) + `}`,
		"two sizes":                  `{"layers":[` + layerB + `,` + strings.Replace(layerB, `"size":`, `"size":9`, 1) + `]}`,
		"two sizes, config and list": `{"config":` + strings.Replace(layerB, `"size":`, `"size":9`, 1) + `,"layers":[` + layerB + `]}`,
	} {
		if _, err := parse("x/y", []byte(body)); err != nil {
			t.Errorf("%s: held: %v", name, err)
		}
		if _, err := parseNew("x/y", []byte(body)); !errors.As(err, new(*InvalidError)) {
			t.Errorf("%s: put: got %v", name, err)
		}
	}
	for name, body := range map[string]string{
		"a field of its own":   `{"layers":[` + layerB + `],"Layered":1,"annotations":{"Layers":"x"}}`,
		"the same layer":       `{"layers":[` + layerB + `,` + layerB + `]}`,
		"the empty descriptor": `{"config":` + layerB + `,"layers":[` + layerB + `]}`,
	} {
		if _, err := parseNew("x/y", []byte(body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
