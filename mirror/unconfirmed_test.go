package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// only are the requests of one method.
func only(method string, requests []string) []string {
	return slices.DeleteFunc(slices.Clone(requests), func(r string) bool { return !strings.HasPrefix(r, method+" ") })
}

// private puts the blobs of a sample image into a repository that no source has to do with.
func (s *setup) private(t *testing.T, image string) []ocispec.Descriptor {
	t.Helper()
	run := s.run(t)
	var blobs []ocispec.Descriptor
	for _, i := range s.plan(t).Images {
		if i.Repository != image {
			continue
		}
		for _, m := range i.Manifests {
			blobs = append(blobs, m.Blobs...)
		}
	}
	for _, b := range blobs {
		content, ok := s.Blob(image, b.Digest)
		if !ok {
			t.Fatalf("the sample has no blob %s", b.Digest)
		}
		if err := run.PutBlob(t.Context(), "team/private", b, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := run.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return blobs
}

// A source that names a layer does not have it for that: another repository here may.
func TestExecute_blobThatOnlyAnotherRepositoryHas(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"the source does not have it": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			return true
		},
		"the source has another size": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "7")
			if r.Method == http.MethodGet {
				_, _ = w.Write([]byte("another"))
			}
			return true
		},
		"the source confirms it and then fails": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				return false
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, additional)
			s.private(t, "samples/docker")
			secret := s.layer(t, "samples/docker", "v1")
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/blobs/"+secret.String()) && answer(w, r)
			})
			_, err := s.mirror(t)
			if strings.HasPrefix(name, "the source confirms") {
				if err != nil {
					t.Fatal(err)
				}
				s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
				return
			}
			if exitCode(err) != 8 {
				t.Errorf("error %v, want exit code 8", err)
			}
			s.lacks(t, "samples/docker", "v1")
			if _, err := s.store.Blobs.Stat(t.Context(), "samples/docker", secret); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the layer of another repository is readable: %v", err)
			}
			s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))
		})
	}
}

// What a run has brought that ended early is asked for at the source and not fetched
// again, by the next run.
func TestExecute_resumeFetchesNothingTwice(t *testing.T) {
	s := newSetup(t, twoReleases+additional)
	ctx, cancel := context.WithCancel(t.Context())
	plan := s.plan(t)
	if _, err := s.engine.Execute(ctx, plan, &closing{Destination: s.run(t), cancel: cancel}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.asked("")
	if _, err := s.engine.Execute(t.Context(), plan, s.run(t)); err != nil {
		t.Fatal(err)
	}
	asked := s.asked("/blobs/")
	if fetched := only("GET", asked); len(fetched) != 0 {
		t.Errorf("fetched again: %v", fetched)
	}
	if asked := only("HEAD", asked); len(asked) < plan.Blobs {
		t.Errorf("the source was asked for %d of %d blobs", len(asked), plan.Blobs)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
}

// One source is asked for a blob once in a run, however many repositories get it from there.
func TestExecute_asksASourceOnceForABlob(t *testing.T) {
	images := "  additionalImages:\n  - name: HOST/samples/docker:v1\n"
	for _, repo := range []string{"one", "two", "three"} {
		images += "  - {name: 'HOST/samples/docker:v1', targetRepo: " + repo + "}\n"
	}
	s := newSetup(t, images)
	s.engine = s.newEngine(t, images, oneAtATime)
	blobs := s.private(t, "samples/docker")
	s.asked("")
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	asked := s.asked("/blobs/")
	if len(only("HEAD", asked)) != len(blobs) || len(asked) != len(blobs) {
		t.Errorf("for %d blobs the source was asked %v", len(blobs), asked)
	}
	for _, repo := range []string{"samples/docker", "one", "two", "three"} {
		s.holds(t, repo, "v1", s.digest(t, "samples/docker", "v1"))
	}
}
