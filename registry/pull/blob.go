package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Blob opens a blob of repo. One that is not stored is fetched; it can be read, and sought in,
// while it arrives. A Read waits for its bytes until ctx ends. io.EOF means that the blob is
// verified and stored: the last byte is withheld until then. Errors are those of Manifest.
func (p *Puller) Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	o, err := p.origin(repo)
	if err != nil {
		return nil, 0, err
	}
	rc, size, err := p.openStored(ctx, repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return rc, size, o.gave(true, err)
	}
	if err := o.lacks("blob", d.String()); err != nil {
		return nil, 0, err
	}
	user := userOf(ctx)
	f, err := p.downloads.follow(o, d, user)
	if err != nil {
		return nil, 0, err
	}
	leave := func() { p.downloads.leave(f, user) }
	size, err = f.sized(ctx)
	if err == nil && size >= 0 {
		o.peer.counts.gave(false)
		return newReader(ctx, f, size, leave), size, nil
	}
	leave()
	if err != nil {
		return nil, 0, err
	}
	// Stored by now: it was already, or the upstream did not announce the size.
	rc, size, err = p.openStored(ctx, repo, d)
	return rc, size, o.gave(false, err)
}

// Stat returns the size of a blob of repo, -1 if the upstream does not announce it, without a
// fetch. Errors are those of Manifest.
func (p *Puller) Stat(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	o, err := p.origin(repo)
	if err != nil {
		return 0, err
	}
	size, err := p.store.Blobs.Stat(ctx, repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return size, err
	}
	if size := p.downloads.size(o, d); size >= 0 {
		return size, nil
	}
	return askFor(ctx, p.calls, o, "blob", d.String(), "HEAD "+repo+"@"+d.String(), func(ctx context.Context) (int64, error) {
		size, err := o.Source.Stat(ctx, o.upstream, d)
		if err != nil {
			return 0, o.failed("blob", d.String(), err)
		}
		return size, nil
	})
}

func (p *Puller) openStored(ctx context.Context, repo string, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	b, err := p.store.Blobs.Open(ctx, repo, d)
	if err != nil {
		return nil, 0, err
	}
	return b, b.Size, nil
}

// downloads are the blobs on their way into the store.
type downloads struct {
	*lifetime
	store  *store.Store
	log    *slog.Logger
	linger time.Duration // limit of a download without readers
	byKey  map[downloadKey]*download
}

// size returns the size of a blob under way, -1 if it is unknown.
func (ds *downloads) size(o origin, d digest.Digest) int64 {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if f, ok := ds.byKey[downloadKey{repo: o.repo, digest: d}]; ok {
		return f.known()
	}
	return -1
}

// follow adds a reader to the download of a blob, and starts it if there is none.
func (ds *downloads) follow(o origin, d digest.Digest, user string) (*download, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.closed {
		return nil, errClosed
	}
	key := downloadKey{repo: o.repo, digest: d}
	f, ok := ds.byKey[key]
	if !ok || !f.begun() {
		if err := o.down(); err != nil {
			return nil, err
		}
	}
	if !ok || !f.place.want(user) {
		ctx, cancel := context.WithCancel(ds.ctx)
		f = newDownload(key, o.transfers, cancel)
		f.place.want(user)
		ds.byKey[key] = f
		ds.fetches.Go(func() {
			defer cancel()
			err := ds.fetch(context.WithValue(ctx, placeKey{}, f.place), o, f)
			f.place.release()
			ds.finish(f, err)
		})
	}
	f.readers++
	f.stopLingering()
	return f, nil
}

// leave removes a reader. Without readers the download lingers until another one needs its place.
func (ds *downloads) leave(f *download, user string) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	f.place.unwant(user)
	f.readers--
	if f.readers > 0 {
		return
	}
	if f.ended {
		f.closeFile()
		return
	}
	f.lingering = time.AfterFunc(ds.linger, func() { ds.abandon(f) })
}

// abandon ends a download that has lingered too long. The next reader starts another.
func (ds *downloads) abandon(f *download) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if f.readers == 0 && ds.byKey[f.key] == f {
		delete(ds.byKey, f.key)
		f.cancel()
	}
}

// finish records the end of a download.
func (ds *downloads) finish(f *download, err error) {
	ds.mu.Lock()
	if ds.byKey[f.key] == f {
		delete(ds.byKey, f.key)
	}
	f.ended = true
	f.stopLingering()
	unread := f.readers == 0
	ds.mu.Unlock()
	f.finish(err)
	if !unread {
		return
	}
	f.closeFile()
	if err != nil { // readers would have reported it
		ds.log.Warn("download failed", "repository", f.key.repo, "blob", f.key.digest, "error", err)
	}
}

// fetch fetches a blob into the store.
func (ds *downloads) fetch(ctx context.Context, o origin, f *download) error {
	d := f.key.digest
	if err := f.place.hold(ctx); err != nil {
		return o.failed("blob", d.String(), err)
	}
	// It may have been stored while this waited for its place.
	if _, err := ds.store.Blobs.Stat(ctx, o.repo, d); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err := o.lacks("blob", d.String()); err != nil {
		return err
	}
	if linked, err := ds.confirm(ctx, o, d); linked || err != nil {
		return err
	}
	announced, err := ds.store.Blobs.ReferencedSize(ctx, o.repo, d)
	if err != nil {
		return err
	}
	offset := ds.store.Uploads.PulledPart(ctx, d, announced)
	body, size, err := o.Source.BlobFrom(ctx, o.upstream, d, offset)
	if err != nil {
		return o.failed("blob", d.String(), err)
	}
	defer body.Close()
	if o.Pace != nil {
		body = pacedReader{throttle.Reader(ctx, body, o.Pace), body}
	}
	if err := ds.transfer(ctx, o.repo, f, body, part{size, announced, offset}); err != nil {
		return o.failed("blob", d.String(), err)
	}
	return nil
}

// confirm links a blob that other repositories have into this one, once the upstream has confirmed
// that this repository has it: a manifest may name the content of a repository that the client may
// not read. Without an answer the blob is fetched.
func (ds *downloads) confirm(ctx context.Context, o origin, d digest.Digest) (linked bool, err error) {
	exists, err := ds.store.Blobs.ExistsInAnother(ctx, o.repo, d)
	if err != nil || !exists {
		return false, err
	}
	size, err := o.Source.Stat(ctx, o.upstream, d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, o.failed("blob", d.String(), err)
	}
	if err != nil {
		return false, nil
	}
	err = ds.store.Blobs.LinkPulled(ctx, o.repo, d, size)
	if errors.Is(err, store.ErrNotFound) { // collected meanwhile, or of another size
		return false, nil
	}
	return err == nil, err
}

// part is the rest of a blob from an offset: what is before is in the store.
type part struct {
	size      int64 // of the whole, by the upstream; -1: unknown
	announced int64 // by its manifest
	offset    int64
}

// upload begins the upload of a part.
func (ds *downloads) upload(ctx context.Context, repo string, f *download, p part) (*store.Upload, error) {
	if p.announced < 0 || p.size != p.announced {
		return ds.store.Uploads.NewPulled(ctx, repo, p.size, f.arrived)
	}
	return ds.store.Uploads.ContinuePulled(ctx, repo, f.key.digest, p.size, p.offset, f.arrived)
}

// transfer stores a body while readers follow. What came of a large blob is kept when the upstream or the
// appliance breaks it off, and is not fetched again.
func (ds *downloads) transfer(ctx context.Context, repo string, f *download, body io.ReadCloser, p part) (err error) {
	switch {
	case p.size < 0:
		p.size = p.announced
	case p.offset > 0 && p.size != p.announced:
		return fmt.Errorf("the upstream's blob has %d bytes, its manifest says %d", p.size, p.announced)
	case p.announced >= 0 && p.size > p.announced:
		return fmt.Errorf("%w: it has %d bytes, its manifest says %d", errTooLong, p.size, p.announced)
	}
	size := p.size
	upload, err := ds.upload(ctx, repo, f, p)
	if err != nil {
		return err
	}
	end := func() error { return upload.Cancel(context.WithoutCancel(ctx)) }
	defer func() { err = errors.Join(err, end()) }() // does nothing after Commit
	file, err := upload.Open()
	if err != nil {
		return err
	}
	f.start(file, size, p.offset)
	f.place.pausable()
	var from io.ReadCloser = placedReader{body, ctx, f.place}
	if size >= 0 {
		from = http.MaxBytesReader(nil, from, size-p.offset)
	}
	written, err := upload.ReadFrom(from)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return fmt.Errorf("%w: more than the %d announced bytes arrive", errTooLong, size)
	case err != nil:
		end = upload.Keep
		return err
	case size >= 0 && p.offset+written != size:
		end = upload.Keep
		return fmt.Errorf("%d bytes arrived, %d were announced: %w", p.offset+written, size, io.ErrUnexpectedEOF)
	}
	_, err = upload.Commit(ctx, f.key.digest)
	var wrong *store.DigestError
	if errors.As(err, &wrong) { // the upstream's fault, not the client's
		return hint.New(fmt.Errorf("the upstream's content hashes to %s and not to %s", wrong.Got, wrong.Want),
			"the upstream, or a proxy before it, serves damaged content: tell its operator")
	}
	return err
}

// errTooLong reports a blob with more bytes than its manifest or the upstream announced.
var errTooLong = errors.New("the upstream's blob is too long")

// pacedReader is a body that is read no faster than its route allows.
type pacedReader struct {
	io.Reader
	io.Closer
}

// placedReader reads only while the download has a place.
type placedReader struct {
	io.ReadCloser
	ctx   context.Context
	place *place
}

func (r placedReader) Read(p []byte) (int, error) {
	if err := r.place.hold(r.ctx); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}
