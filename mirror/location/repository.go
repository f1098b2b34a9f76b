package location

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// repository is a repository with mirrors, or at another place than its name says. Each request
// goes to the endpoints in turn until one has an answer. The one that answered is asked first from
// then on, and one whose registry did not answer is asked last.
type repository struct {
	name string
	all  *Locations
	// The endpoints for tags, for digests, and for what is found by a manifest that was read.
	byTag, byDigest, content []*endpoint

	mu       sync.Mutex // guards the rest
	answered map[kind]*endpoint
	logged   *endpoint
}

type endpoint struct {
	place   Place
	open    func() (Source, error) // once
	blocked error
}

// kind is the kind of a request, which decides the endpoints.
type kind int

const (
	ofTag kind = iota
	ofDigest
	ofContent
)

// attachment matches the tags by which something is attached to a digest.
var attachment = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.|$)`)

// Manifest reads a manifest. What is attached to an image is read where the image is.
func (r *repository) Manifest(ctx context.Context, ref string) (desc ocispec.Descriptor, body []byte, err error) {
	k := ofTag
	switch {
	case strings.Contains(ref, ":"):
		k = ofDigest
	case attachment.MatchString(ref):
		k = ofContent
	}
	err = r.ask(ctx, k, func(s Source) (err error) {
		desc, body, err = s.Manifest(ctx, ref)
		return err
	})
	return desc, body, err
}

// Blob opens a blob.
func (r *repository) Blob(ctx context.Context, d digest.Digest) (body io.ReadCloser, size int64, err error) {
	err = r.ask(ctx, ofContent, func(s Source) (err error) {
		body, size, err = s.Blob(ctx, d)
		return err
	})
	return body, size, err
}

// BlobFrom opens a blob at an offset, for a reader that verifies it.
func (r *repository) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (
	body io.ReadCloser, size int64, err error) {
	err = r.ask(ctx, ofContent, func(s Source) (err error) {
		body, size, err = s.BlobFrom(ctx, d, offset)
		return err
	})
	return body, size, err
}

// Stat returns the size of a blob.
func (r *repository) Stat(ctx context.Context, d digest.Digest) (size int64, err error) {
	err = r.ask(ctx, ofContent, func(s Source) (err error) {
		size, err = s.Stat(ctx, d)
		return err
	})
	return size, err
}

// Referrers lists what refers to a manifest.
func (r *repository) Referrers(ctx context.Context, d digest.Digest) (all []ocispec.Descriptor, err error) {
	err = r.ask(ctx, ofContent, func(s Source) (err error) {
		all, err = s.Referrers(ctx, d)
		return err
	})
	return all, err
}

// Tags lists the tags.
func (r *repository) Tags(ctx context.Context) (all []string, err error) {
	err = r.ask(ctx, ofTag, func(s Source) (err error) {
		all, err = s.Tags(ctx)
		return err
	})
	return all, err
}

// ask asks the endpoints in turn.
func (r *repository) ask(ctx context.Context, k kind, do func(Source) error) error {
	var failed failures
	order, first := r.order(k)
	for _, e := range order {
		if why := r.all.why(e.place.Registry); why != nil && failed.answered() {
			failed = append(failed, failure{e, why}) // each repetition of all retries would take a minute
			continue
		}
		err := ctx.Err()
		if err == nil {
			err = r.one(ctx, e, do)
		}
		if err == nil {
			r.found(k, e, failed)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		failed = append(failed, failure{e, err})
		if k == ofContent && e == first && errors.Is(err, fs.ErrNotExist) {
			return err // another mirror's attachments, or no mirror's, are not those of the image that was read
		}
	}
	return failed.err()
}

// one asks one endpoint.
func (r *repository) one(ctx context.Context, e *endpoint, do func(Source) error) error {
	if e.blocked != nil {
		return e.blocked
	}
	s, err := e.open()
	if err == nil {
		err = do(s)
	}
	switch {
	case ctx.Err() != nil:
	case silent(err):
		r.all.lost(e.place.Registry, err)
	default:
		r.all.found(e.place.Registry)
	}
	return err
}

// silent reports whether an error is that of a registry that did not answer.
func silent(err error) bool {
	var answer interface{ Answered() bool }
	return errors.As(err, &answer) && !answer.Answered()
}

// order returns the endpoints for a request. first is the one that has answered before, nil if none
// has.
func (r *repository) order(k kind) (order []*endpoint, first *endpoint) {
	r.mu.Lock()
	first = r.answered[k]
	r.mu.Unlock()
	order = slices.Clone(map[kind][]*endpoint{ofTag: r.byTag, ofDigest: r.byDigest, ofContent: r.content}[k])
	rank := func(e *endpoint) int {
		switch {
		case r.all.why(e.place.Registry) != nil:
			return 2
		case e == first:
			return 0
		}
		return 1
	}
	ranks := map[*endpoint]int{}
	for _, e := range order {
		ranks[e] = rank(e)
	}
	slices.SortStableFunc(order, func(a, b *endpoint) int { return ranks[a] - ranks[b] })
	return order, first
}

// found notes which endpoint answered, and logs that once.
func (r *repository) found(k kind, e *endpoint, failed failures) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered[k] = e
	if k != ofContent {
		r.answered[ofContent] = e
	}
	if r.logged == e {
		return
	}
	r.logged = e
	if len(failed) > 0 {
		r.all.log.Warn("a place of registries.conf failed, and another answers", "repository",
			r.name, "failed", failed.String(), "reading from", e.place)
		return
	}
	r.all.log.Info("reading where registries.conf says", "repository", r.name, "reading from", e.place)
}

type failure struct {
	*endpoint
	err error
}

// failures are what the endpoints of one request answered, the repository's own place last.
type failures []failure

// answered reports whether any endpoint has answered.
func (f failures) answered() bool {
	return slices.ContainsFunc(f, func(one failure) bool { return one.blocked == nil && !silent(one.err) })
}

func (f failures) String() string {
	var all []string
	for _, one := range f {
		all = append(all, one.place.String()+": "+one.err.Error())
	}
	return strings.Join(all, "; ")
}

// err returns the error of the request. It is that the content does not exist only if each endpoint
// that may be read says so.
func (f failures) err() error {
	if len(f) == 1 {
		return f[0].err
	}
	chosen, best := f[0], 3
	for _, one := range slices.Backward(f) {
		weight := 0
		switch {
		case one.blocked != nil:
			weight = 2
		case errors.Is(one.err, fs.ErrNotExist):
			weight = 1
		}
		if weight < best {
			chosen, best = one, weight
		}
	}
	others := slices.DeleteFunc(slices.Clone(f), func(one failure) bool { return one == chosen })
	return fmt.Errorf("%w (registries.conf names other places too: %s)", chosen.err, others)
}
