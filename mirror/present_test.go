package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror"
)

// bodies are manifests of a registry, by repository and reference.
type bodies map[string]string

func (b bodies) read(_ context.Context, repository, ref string) (ocispec.Descriptor, []byte, error) {
	body, ok := b[repository+" "+ref]
	if !ok {
		return ocispec.Descriptor{}, nil, fmt.Errorf("%s of %s: %w", ref, repository, fs.ErrNotExist)
	}
	var m struct{ MediaType string }
	err := json.Unmarshal([]byte(body), &m)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromString(body), Size: int64(len(body))}, []byte(body), err
}

// having returns the repositories that have a manifest.
func (b bodies) having(_ context.Context, d digest.Digest) (all []string, err error) {
	for at := range b {
		if repository, ref, _ := strings.Cut(at, " "); ref == d.String() {
			all = append(all, repository)
		}
	}
	return all, nil
}

// put adds a manifest under its digest and some tags.
func (b bodies) put(repository, body string, tags ...string) digest.Digest {
	d := digest.FromString(body)
	for _, ref := range append(tags, d.String()) {
		b[repository+" "+ref] = body
	}
	return d
}

func imageBody(name string) string {
	const form = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[]}`
	return fmt.Sprintf(form, digest.FromString(name))
}

func TestPresent(t *testing.T) {
	b := bodies{}
	amd, arm := imageBody("amd64"), imageBody("arm64")
	list := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`+
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"platform":{"os":"linux","architecture":"amd64"}},`+
		`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"platform":{"os":"linux","architecture":"arm64"}}]}`,
		digest.FromString(amd), len(amd), digest.FromString(arm), len(arm))
	one, other := b.put("far/a", imageBody("one"), "v1"), b.put("far/a", imageBody("other"))
	multi := b.put("far/list", list)
	b.put("far/list", amd)
	alone := b.put("unled/c", imageBody("alone"))
	second := b.put("second/a", imageBody("second"))
	pushed, joined := b.put("by/hand/x/pushed", imageBody("pushed")), b.put("by/hand-x-joined", imageBody("joined"), "v1")
	of := func(repository, tag, origin string, more string) mirror.Origin {
		return mirror.Origin{Repository: repository, Tag: tag,
			About: json.RawMessage(fmt.Sprintf(`{"type":"operatorRelatedImage","origin":%q%s}`, origin, more))}
	}
	const linux = `,"platforms":[{"os":"linux","architecture":"amd64"}]`
	p, err := mirror.NewPresent([]mirror.Origin{
		of("far/a", "x", "x.io/a@"+one.String(), ""), of("second/a", "x", "x.io/a@"+second.String(), ""),
		of("far/list", "x", "x.io/list@"+multi.String(), linux), of("far/b", "v1", "x.io/b:v1", ""),
	}, b.read, b.having)
	if err != nil {
		t.Fatal(err)
	}
	b.put("far/b", imageBody("b"), "v1")
	absent := digest.FromString("absent")
	for image, want := range map[string]string{
		"x.io/a@" + one.String():              "",
		"x.io/a@" + other.String():            "", // a cluster is led to the repository
		"x.io/a@" + second.String():           "",
		"x.io/a:v1@" + one.String():           "",
		"x.io/a:v1":                           "no run has mirrored it", // clusters are led there by digest only
		"x.io/a@" + absent.String():           "it is absent from second/a, or not whole there",
		"x.io/other/list@" + multi.String():   "no run has mirrored it",
		"x.io/list@" + multi.String():         "", // the platform that was mirrored
		"x.io/b:v1":                           "",
		"x.io/b:v2":                           "it is absent from far/b, or not whole there",
		"x.io/c@" + alone.String():            "", // as another program has put it
		"docker.io/library/a@" + one.String(): "no run has mirrored it",
		"x.io/x/pushed@" + pushed.String():    "",
		"x.io/x/joined@" + joined.String():    "",
		"x.io/x/joined:v1":                    "no run has mirrored it", // a tag may be another image there
		"x.io/y/pushed@" + pushed.String():    "no run has mirrored it", // no cluster is led to it
		"x.io/ushed@" + pushed.String():       "no run has mirrored it",
		"x.io/A@b":                            `"b" is not a digest`,
	} {
		lacking, err := p.Lacking(t.Context(), []string{image})
		if err != nil || !strings.Contains(lacking[image], want) || want == "" && len(lacking) > 0 {
			t.Errorf("%s: %v, %v", image, lacking, err)
		}
	}
	t.Run("a list of which all was mirrored", func(t *testing.T) {
		p, err := mirror.NewPresent([]mirror.Origin{of("far/list", "x", "x.io/list@"+multi.String(), "")}, b.read, b.having)
		if err != nil {
			t.Fatal(err)
		}
		if lacking, err := p.Lacking(t.Context(), []string{"x.io/list@" + multi.String()}); err != nil || len(lacking) != 1 {
			t.Errorf("%v, %v", lacking, err)
		}
	})
	t.Run("a registry that cannot be read", func(t *testing.T) {
		broken := errors.New("the disk is broken")
		p, err := mirror.NewPresent([]mirror.Origin{of("far/a", "x", "x.io/a:v1", "")}, func(context.Context, string, string) (ocispec.Descriptor, []byte, error) {
			return ocispec.Descriptor{}, nil, broken
		}, b.having)
		if err != nil {
			t.Fatal(err)
		}
		if lacking, err := p.Lacking(t.Context(), []string{"x.io/a:v1"}); !errors.Is(err, broken) {
			t.Errorf("an error makes an image absent: %v, %v", lacking, err)
		}
	})
}
