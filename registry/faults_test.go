package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	crowd = 64
	each  = 3 // images that one of the crowd pushes
)

// TestRun_crowd lets 64 clients push small images, which have a layer in common, and delete every
// other of theirs, while collections run one after the other. No answer is 5xx, and nothing
// that was acknowledged and not deleted is missing in the end.
func TestRun_crowd(t *testing.T) {
	r := start(t)
	shared, err := random.Image(512, 1)
	must(t, err)
	ended := make(chan struct{})
	var collecting, pushing sync.WaitGroup
	collecting.Go(func() { collectUntil(t, r, ended) })
	for i := range crowd {
		pushing.Go(func() { pushAndDelete(t, r, i, shared) })
	}
	pushing.Wait()
	close(ended)
	collecting.Wait()
	if n := strings.Count(r.access.String(), " status=201"); n < crowd*each {
		t.Errorf("the access log has only %d pushes", n)
	}
	for line := range strings.Lines(r.access.String()) {
		if strings.Contains(line, " status=5") {
			t.Errorf("answered: %s", line)
		}
	}
	for i := range crowd {
		back, err := remote.Image(tag(t, fmt.Sprintf("crowd/%d:kept", i)), r.remote(t, "pull", password)...)
		if err == nil {
			err = validate.Image(back)
		}
		if err != nil {
			t.Errorf("pull what %d pushed: %v", i, err)
		}
	}
	none := api.Duration(0)
	_, err = r.admin.GC(t.Context(), api.GCRequest{GracePeriod: &none}, nil)
	must(t, err)
	r.end(t)
	verify(t, r)
}

// collectUntil collects without a pause. Its grace period is short, so that there is something to
// collect; a push that takes longer is told to push its blobs again.
func collectUntil(t *testing.T, r *running, ended <-chan struct{}) {
	grace := api.Duration(2 * time.Second)
	for {
		select {
		case <-ended:
			return
		default:
		}
		if _, err := r.admin.GC(t.Context(), api.GCRequest{GracePeriod: &grace}, nil); err != nil {
			t.Errorf("collect: %v", err)
			return
		}
	}
}

// pushAndDelete pushes images, and deletes all but the last by digest.
func pushAndDelete(t *testing.T, r *running, i int, shared v1.Image) {
	repo := fmt.Sprintf("crowd/%d", i)
	options := r.remote(t, "push", password)
	for n := range each {
		img, err := random.Image(256, 2)
		if n == each/2 {
			img = shared // in all repositories the same
		}
		if err == nil {
			err = pushAgain(tag(t, repo+":kept"), img, options)
		}
		if err == nil && n < each-1 {
			err = deleteImage(t, repo, img, options)
		}
		if err != nil {
			t.Errorf("%s, image %d: %v", repo, n, err)
			return
		}
	}
}

// pushAgain pushes until no collection has come between.
func pushAgain(to name.Tag, img v1.Image, options []remote.Option) error {
	var err error
	for range 20 {
		err = remote.Write(to, img, options...)
		var refused *transport.Error
		if !errors.As(err, &refused) || refused.StatusCode != http.StatusBadRequest || !strings.Contains(err.Error(), "MANIFEST_BLOB_UNKNOWN") {
			break
		}
	}
	return err
}

func deleteImage(t *testing.T, repo string, img v1.Image, options []remote.Option) error {
	d, err := img.Digest()
	if err != nil {
		return err
	}
	err = remote.Delete(tag(t, repo+":kept").Context().Digest(d.String()), options...)
	var refused *transport.Error
	if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
		return fmt.Errorf("what was acknowledged is not there: %w", err)
	}
	return err
}

// verify opens the store of a daemon that has ended, and verifies all of it.
func verify(t *testing.T, r *running) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Database: r.cfg.Database, Storage: r.cfg.Storage, Credentials: r.cfg.StorageCredentials})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	report, err := s.Integrity().Verify(t.Context(), store.VerifyOptions{Content: true})
	must(t, err)
	for _, p := range report.Problems {
		t.Error(p)
	}
	if report.Tags != crowd {
		t.Errorf("there are %d tags", report.Tags)
	}
}
