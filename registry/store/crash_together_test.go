package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// crashStorage, when set, makes the test binary one of several daemons of that storage in S3, of
// which some are killed. crashCredentials are those of the storage, and crashObjects the directory that
// its server has objects in.
const (
	crashStorage     = "STORE_CRASH_STORAGE"
	crashCredentials = "STORE_CRASH_CREDENTIALS"
	crashObjects     = "STORE_CRASH_OBJECTS"
)

// fewParts is a storage without the parts that have no blob: to list each takes longer than all else.
type fewParts struct {
	*blobs3.Storage
	root string // of its objects
}

// Parts implements blobstore.Storage.
func (f fewParts) Parts(ctx context.Context, a digest.Algorithm) (some []blobstore.Part, err error) {
	all, err := f.Storage.Parts(ctx, a)
	for _, part := range all {
		prefix := part.Prefix()
		if _, err := os.Stat(filepath.Join(f.root, a.String(), prefix[len(prefix)-2:])); err == nil {
			some = append(some, part)
		}
	}
	return some, err
}

// together is the work of such a daemon.
type together struct {
	*Store

	mu  sync.Mutex // guards out
	out *json.Encoder
}

// writeTogether is writeForEver for a daemon among others: it pushes what others push and remove at the
// same time.
func writeTogether() error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Database: os.Getenv(crashDatabase), Storage: os.Getenv(crashStorage), Credentials: os.Getenv(crashCredentials), Shared: true})
	if err != nil {
		return err
	}
	s.part = 0
	s.blobs = fewParts{s.blobs.(*blobs3.Storage), os.Getenv(crashObjects)}
	w := &together{Store: s, out: json.NewEncoder(os.Stdout)}
	if err := w.say(ack{Member: s.db.(interface{ Member() string }).Member()}); err != nil {
		return err
	}
	failed := make(chan error)
	for i, work := range []func(ctx context.Context, name string, n int) error{w.push, w.push, w.pushAndDelete, w.run, w.upload, w.collect} {
		go func() {
			for n := 0; ; n++ {
				err := work(ctx, fmt.Sprint(os.Getpid(), ".", i, ".", n), n)
				if err != nil && !errors.Is(err, ErrUnavailable) { // which a client tries again
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

func (w *together) say(a ack) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Encode(a)
}

// shared is a layer that several daemons push in the same second.
func shared(n int) string {
	return strings.Repeat(fmt.Sprint("layer ", n%3, " of second ", time.Now().Unix(), ";"), 100)
}

// image pushes an image, whose layers others may push and remove.
func (w *together) image(ctx context.Context, repo, name string, n int) (digest.Digest, error) {
	var parts []ocispec.Descriptor
	for _, content := range []string{name, shared(n)} {
		u, err := w.Uploads.New(ctx, repo)
		if err == nil {
			_, err = io.WriteString(u, content)
		}
		if err == nil {
			_, err = u.Commit(ctx, digest.FromString(content))
		}
		if err != nil {
			return "", fmt.Errorf("push a blob of %s: %w", name, err)
		}
		parts = append(parts, descriptor("x/y", []byte(content)))
	}
	m, err := w.Manifests.Put(ctx, repo, manifestOf(parts[0], parts...), PutOptions{Tags: []string{name}})
	if err != nil {
		return "", fmt.Errorf("push %s: %w", name, err)
	}
	return m.Digest, nil
}

func (w *together) push(ctx context.Context, name string, n int) error {
	d, err := w.image(ctx, "app", name, n)
	if err != nil {
		return err
	}
	return w.say(ack{Manifest: d, Tag: name, Pushed: true})
}

func (w *together) pushAndDelete(ctx context.Context, name string, n int) error {
	d, err := w.image(ctx, "gone", name, n)
	if err != nil {
		return err
	}
	return w.Manifests.Delete(ctx, "gone", d)
}

func (w *together) run(ctx context.Context, name string, _ int) error {
	w.mu.Lock() // only its acknowledgements come together
	defer w.mu.Unlock()
	return runOne(ctx, w.Store, name, w.out)
}

// upload leaves a half, which another daemon continues.
func (w *together) upload(ctx context.Context, name string, _ int) error {
	u, err := w.Uploads.New(ctx, "app")
	if err != nil {
		return err
	}
	half := strings.Repeat(name, 100)
	if _, err := io.WriteString(u, half); err != nil {
		return errors.Join(err, u.Close())
	}
	if err := u.Close(); err != nil {
		return err
	}
	return w.say(ack{Upload: u.ID(), Offset: int64(len(half)), Tag: name})
}

// collect collects without a grace period: what is being pushed is not garbage all the same.
func (w *together) collect(ctx context.Context, _ string, _ int) error {
	before, removed := time.Now().Add(time.Hour), 0
	err := w.Garbage.GarbageBlobs(ctx, before, func(d digest.Digest, _ int64) error {
		n, _, err := w.Garbage.RemoveBlobs(ctx, before, []digest.Digest{d})
		removed += n
		return err
	})
	if err != nil {
		return err
	}
	return w.say(ack{Removed: removed})
}
