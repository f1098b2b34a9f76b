package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Destination is an open run at a destination. What is put is staged, and Commit makes all of it
// visible at once, where the destination can. *store.Run, the control API's client and *remote.Run
// are destinations. mirror/desttest checks what follows.
//
// Methods may be called concurrently, except for Commit and Abort, of which one is called at the
// end. Neither is called when a run is cancelled, so that what is staged is kept from collection
// for a while and serves the next run. Whatever failed may be called again, Commit and Tag too: an
// answer that was lost does not tell whether it was done.
//
// A destination that takes few writers at once, such as an archive, has a method Writers, see
// limited; one that wants to know where content comes from has a method Source, see sourceRecorder;
// one that is to see the plan has a method Planned, and one that lists what failed of it Lacks; one
// that serves cluster resources has a method Origins, see originRecorder; one that may collect what
// is not tagged has a method Keep, see keeper.
type Destination interface {
	// Existing returns those of some blobs and manifests, both by the repository that they are for,
	// that exist there and need not be put. They are kept from collection from then on, and the
	// manifests are staged. A caller that must know that a manifest is complete asks for its blobs,
	// and for the children of an index, too. Unconfirmed are the blobs that only other repositories
	// have: a source that names them need not have them.
	Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (
		haveBlobs, haveManifests, unconfirmed map[string][]digest.Digest, err error)
	// Confirm stages unconfirmed blobs without their bytes, where the destination can: the caller
	// has asked the source of each repository, which has the blobs listed by it, with these sizes.
	// It returns those that are staged; the others are put.
	Confirm(ctx context.Context, blobs map[string][]ocispec.Descriptor) (staged map[string][]digest.Digest, err error)
	// PutBlob stages a blob, verifying its size and digest: the source does not. Its error says
	// that the digest is another by a method Mismatch, see mismatch. It reads r once, to its end.
	// Before that it may seek to a byte up to which it has the blob from a put that broke off, in
	// an earlier run as well, if r is an io.Seeker. If it has other bytes, the digest tells, and it
	// forgets them: called again, it reads all.
	PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, r io.Reader) error
	// PutManifest stages a manifest, whose blobs exist in the repository or are staged for it.
	PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error
	// Tag stages tags: by repository and tag, the manifest, existing or staged, that it is to name.
	Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error
	Commit(ctx context.Context) error
	Abort(ctx context.Context) error
}

// limited is a destination that takes so many writers at once; others take as many as there are.
type limited interface{ Writers() int }

// sourceRecorder is a destination that records the sources of content (as in quay.io/org/image) by
// repository, to fetch damaged content again.
type sourceRecorder interface {
	Source(ctx context.Context, from map[string][]string) error
}

// refusal is an error of a destination that may have refused for good: its disk is full, say.
type refusal interface {
	error
	Refused() bool
}

// pause is an error of a destination that had too many requests. It makes the next one wait.
type pause interface {
	error
	Busy() bool
}

// mismatch is an error of a destination that may be that content had another digest than its name.
type mismatch interface {
	error
	Mismatch() bool
}

// sourceError is an error of reading a source, which has retried what may pass.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// attempts is how often a destination is asked or given the same while its side fails, and pauses
// how often while it is busy.
const (
	attempts = 3
	pauses   = 100
)

// target is the destination of a run. It retries calls while the destination's side fails: one
// dropped connection must not leave a release incomplete.
type target struct {
	dst     Destination
	sleep   func(ctx context.Context, d time.Duration) error
	log     *slog.Logger
	writers chan struct{} // has a token for each writer under way; nil: no limit
}

func (e *engine) target(dst Destination) *target {
	t := &target{dst: dst, sleep: e.o.Sleep, log: e.o.Log}
	if l, ok := dst.(limited); ok {
		t.writers = make(chan struct{}, max(l.Writers(), 1))
	}
	return t
}

// repeat calls do, and again while the destination's side fails.
func (t *target) repeat(ctx context.Context, what string, do func() error) error {
	return retry.Policy{
		Attempts: attempts, First: 2 * time.Second, Sleep: t.sleep,
		Again: func(err error) (bool, time.Duration) {
			var source *sourceError
			var no refusal
			return !errors.As(err, &source) && !(errors.As(err, &no) && no.Refused()), 0
		},
		Notify: func(failures int, err error) {
			t.log.Warn("the destination failed and is tried again", "at", what, "attempt", failures, "error", err)
		},
	}.Do(ctx, func() error {
		err := watched(ctx, do)
		for n := 1; n < pauses && busy(err) && ctx.Err() == nil; n++ {
			err = watched(ctx, do)
		}
		return err
	})
}

// busy reports whether the same is worth another try once the destination has rested.
func busy(err error) bool {
	var p pause
	var source *sourceError
	return errors.As(err, &p) && p.Busy() && !errors.As(err, &source)
}

// write is repeat for a put, within the number of writers that the destination takes.
func (t *target) write(ctx context.Context, what string, do func() error) error {
	if t.writers != nil {
		select {
		case t.writers <- struct{}{}:
			defer func() { <-t.writers }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return t.repeat(ctx, what, do)
}

// ParseDestination splits docker://HOST:PORT/PATH into Options.Registry and Prefix.
func ParseDestination(argument string) (registry, prefix string, err error) {
	registry, prefix, _ = strings.Cut(strings.TrimPrefix(argument, "docker://"), "/")
	prefix = strings.Trim(prefix, "/")
	if shown := imageset.Shown(argument); shown != argument {
		return "", "", hint.New(fmt.Errorf("destination docker://%s: it has a login in it, which ps and the shell's history show", shown),
			"log in with podman login, name the file with --authfile, and leave the login out")
	}
	reason := ""
	switch _, err := name.NewRegistry(registry); {
	case registry == "https:" || registry == "http:":
		reason = "a registry is named without " + registry + "//"
	case registry == "" || strings.HasPrefix(registry, ":"):
		reason = "it names no registry"
	case strings.ContainsAny(prefix, "@:"):
		reason = "it has a tag or a digest, which a destination cannot have"
	case err != nil:
		reason = err.Error()
	case prefix != "":
		if err := image.CheckRepository(prefix); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		return "", "", hint.New(fmt.Errorf("destination %s: %s", argument, reason),
			"for example docker://registry.example.com:8443/path")
	}
	return registry, prefix, nil
}
