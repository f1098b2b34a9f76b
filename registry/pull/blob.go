package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Blob opens a blob of repo. One that is not stored is fetched; it can be read, and sought in, while it arrives. A Read
// waits for its bytes until ctx ends. io.EOF means that the blob is verified and stored: the last byte is withheld until
// then. Errors are those of Manifest.
func (p *Puller) Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	o, ok := p.origin(repo)
	if !ok {
		return nil, 0, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	rc, size, err := p.openStored(ctx, repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return rc, size, err
	}
	user := userOf(ctx)
	f, err := p.follow(o, d, user)
	if err != nil {
		return nil, 0, err
	}
	size, err = f.sized(ctx)
	if err != nil {
		p.leave(f, user)
		return nil, 0, err
	}
	if size >= 0 {
		return &reader{ctx: ctx, download: f, size: size, leave: func() { p.leave(f, user) }}, size, nil
	}
	// Stored by now: it was already, or the upstream did not announce the size.
	p.leave(f, user)
	return p.openStored(ctx, repo, d)
}

// Stat returns the size of a blob of repo, -1 if the upstream does not announce it, without a fetch. Errors are those of
// Manifest.
func (p *Puller) Stat(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	o, ok := p.origin(repo)
	if !ok {
		return 0, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	size, err := p.store.Blobs.Stat(ctx, repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return size, err
	}
	if size := p.arriving(o, d); size >= 0 {
		return size, nil
	}
	return ask(ctx, p, o, "HEAD "+repo+"@"+d.String(), 0, func(ctx context.Context) (int64, error) {
		size, err := o.Source.Stat(ctx, o.upstream, d)
		if err != nil {
			return 0, o.failed("blob", d.String(), err)
		}
		return size, nil
	})
}

// arriving returns the size of a blob that is being downloaded, -1 if it is unknown.
func (p *Puller) arriving(o origin, d digest.Digest) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f, ok := p.downloads[downloadKey{repo: o.repo, digest: d}]; ok {
		return f.known()
	}
	return -1
}

func (p *Puller) openStored(ctx context.Context, repo string, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	b, err := p.store.Blobs.Open(ctx, repo, d)
	if err != nil {
		return nil, 0, err
	}
	return b, b.Size, nil
}

// follow adds a reader to the download of a blob, and starts it if there is none.
func (p *Puller) follow(o origin, d digest.Digest, user string) (*download, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	key := downloadKey{repo: o.repo, digest: d}
	f, ok := p.downloads[key]
	if !ok || !f.place.want(user) {
		ctx, cancel := context.WithCancel(p.ctx)
		f = newDownload(key, o.transfers, cancel)
		f.place.want(user)
		p.downloads[key] = f
		p.fetches.Go(func() {
			defer cancel()
			err := p.fetchBlob(context.WithValue(ctx, placeKey{}, f.place), o, f)
			f.place.release()
			p.finish(f, err)
		})
	}
	f.readers++
	f.stopLingering()
	return f, nil
}

// leave removes a reader. Without readers the download lingers until another one needs its place.
func (p *Puller) leave(f *download, user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.place.unwant(user)
	f.readers--
	if f.readers > 0 {
		return
	}
	if f.ended {
		f.closeFile()
		return
	}
	f.lingerFor(p.linger, func() { p.abandon(f) })
}

// abandon ends a download that has lingered too long. The next reader starts another.
func (p *Puller) abandon(f *download) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.readers == 0 && p.downloads[f.key] == f {
		delete(p.downloads, f.key)
		f.cancel()
	}
}

// finish records the end of a download.
func (p *Puller) finish(f *download, err error) {
	p.mu.Lock()
	if p.downloads[f.key] == f {
		delete(p.downloads, f.key)
	}
	f.ended = true
	f.stopLingering()
	unread := f.readers == 0
	p.mu.Unlock()
	f.finish(err)
	if !unread {
		return
	}
	f.closeFile()
	if err != nil { // readers would have reported it
		p.log.Warn("download failed", "repository", f.key.repo, "blob", f.key.digest, "error", err)
	}
}

// fetchBlob fetches a blob into the store.
func (p *Puller) fetchBlob(ctx context.Context, o origin, f *download) error {
	d := f.key.digest
	if err := f.place.hold(ctx); err != nil {
		return o.failed("blob", d.String(), err)
	}
	// It may have been stored while this waited for its place.
	if _, err := p.store.Blobs.Stat(ctx, o.repo, d); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if linked, err := p.confirm(ctx, o, d); linked || err != nil {
		return err
	}
	body, size, err := o.Source.UnverifiedBlob(ctx, o.upstream, d)
	if err != nil {
		return o.failed("blob", d.String(), err)
	}
	defer body.Close()
	if err := p.transfer(ctx, o.repo, f, body, size); err != nil {
		return o.failed("blob", d.String(), err)
	}
	return nil
}

// confirm links a blob that other repositories have into this one, once the upstream has confirmed that this repository
// has it: a manifest may name the content of a repository that the client may not read. Without an answer the blob is
// fetched, which proves it or fails.
func (p *Puller) confirm(ctx context.Context, o origin, d digest.Digest) (linked bool, err error) {
	exists, err := p.store.Blobs.ExistsInAnother(ctx, o.repo, d)
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
	err = p.store.Blobs.LinkPulled(ctx, o.repo, d, size)
	if errors.Is(err, store.ErrNotFound) { // collected meanwhile, or of another size
		return false, nil
	}
	return err == nil, err
}

// transfer stores a body while readers follow.
func (p *Puller) transfer(ctx context.Context, repo string, f *download, body io.Reader, size int64) (err error) {
	announced, err := p.store.Blobs.ReferencedSize(ctx, repo, f.key.digest)
	if err != nil {
		return err
	}
	switch {
	case size < 0:
		size = announced
	case announced >= 0 && size > announced:
		return &tooLongError{announced: announced, actual: size}
	}
	upload, err := p.store.Uploads.NewPulled(ctx, repo, size, f.arrived)
	if err != nil {
		return err
	}
	defer func() { // does nothing after Commit
		err = errors.Join(err, upload.Cancel(context.WithoutCancel(ctx)))
	}()
	file, err := upload.Open()
	if err != nil {
		return err
	}
	f.start(file, size)
	f.place.pausable()
	var from io.Reader = placedReader{ctx, f.place, body}
	if size >= 0 {
		from = &boundedReader{from: from, size: size, left: size}
	}
	written, err := upload.ReadFrom(from)
	if err != nil {
		return err
	}
	if size >= 0 && written != size {
		return fmt.Errorf("%d bytes arrived, %d were announced: %w", written, size, io.ErrUnexpectedEOF)
	}
	_, err = upload.Commit(ctx, f.key.digest)
	var wrong *store.DigestError
	if errors.As(err, &wrong) { // the upstream's fault, not the client's
		return hint.New(fmt.Errorf("the upstream's content hashes to %s and not to %s", wrong.Got, wrong.Want),
			"the upstream, or a proxy before it, serves damaged content: tell its operator")
	}
	return err
}

// placedReader reads only while the download has a place.
type placedReader struct {
	ctx   context.Context
	place *place
	body  io.Reader
}

func (r placedReader) Read(p []byte) (int, error) {
	if err := r.place.hold(r.ctx); err != nil {
		return 0, err
	}
	return r.body.Read(p)
}

// boundedReader fails when a body has more than size bytes; it returns none of those beyond.
type boundedReader struct {
	from       io.Reader
	size, left int64
}

func (r *boundedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p[:min(int64(len(p)), r.left+1)])
	if int64(n) > r.left {
		n, err = int(r.left), &tooLongError{announced: r.size, actual: -1}
	}
	r.left -= int64(n)
	return n, err
}

// A tooLongError reports a blob with more bytes than a manifest or the upstream announced.
type tooLongError struct{ announced, actual int64 } // actual is -1 if the bytes arrived

func (e *tooLongError) Error() string {
	if e.actual < 0 {
		return fmt.Sprintf("the upstream sends more than the %d announced bytes", e.announced)
	}
	return fmt.Sprintf("the upstream has %d bytes, its manifest says %d", e.actual, e.announced)
}

func closeQuietly(f *os.File) {
	if f != nil {
		_ = f.Close()
	}
}
