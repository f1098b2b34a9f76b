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

// Blob opens a blob of repo for reading. One that is not held is fetched, and
// can be read, and sought in, while it arrives; a Read waits for its bytes, until
// ctx ends. It ends with io.EOF only when the whole is verified and held; before
// that its last byte is kept back. Errors are those of Manifest.
func (p *Puller) Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	o, ok := p.origin(repo)
	if !ok {
		return nil, 0, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	rc, size, err := p.openHeld(ctx, repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return rc, size, err
	}
	user := userOf(ctx)
	f, err := p.board(o, d, user)
	if err != nil {
		return nil, 0, err
	}
	size, err = f.sized(ctx)
	if err != nil {
		p.leave(f, user)
		return nil, 0, err
	}
	if size >= 0 {
		return &reader{ctx: ctx, flight: f, size: size, leave: func() { p.leave(f, user) }}, size, nil
	}
	// Held by now: it was all along, or the upstream did not tell the size.
	p.leave(f, user)
	return p.openHeld(ctx, repo, d)
}

// Stat gives the size of a blob of repo, -1 if the upstream does not tell. It fetches nothing. Errors are those of Manifest.
func (p *Puller) Stat(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	o, ok := p.origin(repo)
	if !ok {
		return 0, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	size, err := p.store.StatBlob(ctx, repo, d)
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

// arriving is the size of a blob that is being fetched, -1 if it is not known.
func (p *Puller) arriving(o origin, d digest.Digest) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f, ok := p.flights[flightKey{repo: o.repo, digest: d}]; ok {
		return f.known()
	}
	return -1
}

func (p *Puller) openHeld(ctx context.Context, repo string, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	b, err := p.store.OpenBlob(ctx, repo, d)
	if err != nil {
		return nil, 0, err
	}
	return b, b.Size, nil
}

// board finds the flight that brings a blob, or starts it, and counts one more reader.
func (p *Puller) board(o origin, d digest.Digest, user string) (*flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	key := flightKey{repo: o.repo, digest: d}
	f, ok := p.flights[key]
	if !ok || !f.place.want(user) {
		ctx, cancel := context.WithCancel(p.ctx)
		f = newFlight(key, o.transfers, cancel)
		f.place.want(user)
		p.flights[key] = f
		p.fetches.Go(func() {
			defer cancel()
			err := p.fly(context.WithValue(ctx, placeKey{}, f.place), o, f)
			f.place.release()
			p.land(f, err)
		})
	}
	f.readers++
	f.stopLingering()
	return f, nil
}

// leave counts one reader less. With none left the flight goes on for a while, as long as no other is kept waiting.
func (p *Puller) leave(f *flight, user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.place.unwant(user)
	f.readers--
	if f.readers > 0 {
		return
	}
	if f.landed {
		f.closeFile()
		return
	}
	f.lingerFor(p.linger, func() { p.abandon(f) })
}

// abandon ends a flight that nobody has read from for too long. Whoever comes
// now starts another.
func (p *Puller) abandon(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.readers == 0 && p.flights[f.key] == f {
		delete(p.flights, f.key)
		f.cancel()
	}
}

// land ends a flight.
func (p *Puller) land(f *flight, err error) {
	p.mu.Lock()
	if p.flights[f.key] == f {
		delete(p.flights, f.key)
	}
	f.landed = true
	f.stopLingering()
	unread := f.readers == 0
	p.mu.Unlock()
	f.finish(err)
	if !unread {
		return
	}
	f.closeFile()
	if err != nil { // there is nobody else to tell
		p.log.Warn("fetch failed", "repository", f.key.repo, "blob", f.key.digest, "error", err)
	}
}

// fly fetches a blob into the store.
func (p *Puller) fly(ctx context.Context, o origin, f *flight) error {
	d := f.key.digest
	if err := f.place.hold(ctx); err != nil {
		return o.failed("blob", d.String(), err)
	}
	// It may have come while this waited for its turn.
	if _, err := p.store.StatBlob(ctx, o.repo, d); !errors.Is(err, store.ErrNotFound) {
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

// confirm makes a blob that other repositories hold visible in this one, once the upstream has confirmed that it has it
// there: what its manifest names may be another repository's alone. Without an answer the blob is fetched, which fails
// as well, or proves it.
func (p *Puller) confirm(ctx context.Context, o origin, d digest.Digest) (linked bool, err error) {
	elsewhere, err := p.store.HeldElsewhere(ctx, o.repo, d)
	if err != nil || !elsewhere {
		return false, err
	}
	size, err := o.Source.Stat(ctx, o.upstream, d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, o.failed("blob", d.String(), err)
	}
	if err != nil {
		return false, nil
	}
	err = p.store.LinkPulled(ctx, o.repo, d, size)
	if errors.Is(err, store.ErrNotFound) { // collected since, or another's size
		return false, nil
	}
	return err == nil, err
}

// transfer stores a body and lets readers follow.
func (p *Puller) transfer(ctx context.Context, repo string, f *flight, body io.Reader, size int64) (err error) {
	promised, err := p.store.PromisedSize(ctx, repo, f.key.digest)
	if err != nil {
		return err
	}
	switch {
	case size < 0:
		size = promised
	case promised >= 0 && size > promised:
		return &tooLongError{promised: promised, told: size}
	}
	upload, err := p.store.NewPulledUpload(ctx, repo, size, f.arrived)
	if err != nil {
		return err
	}
	defer func() { // after Commit it does nothing
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
		return fmt.Errorf("%d bytes came, %d were promised: %w", written, size, io.ErrUnexpectedEOF)
	}
	_, err = upload.Commit(ctx, f.key.digest)
	var wrong *store.DigestError
	if errors.As(err, &wrong) { // which is not the client's fault, as it would be in a push
		return hint.New(fmt.Errorf("the upstream's content hashes to %s and not to %s", wrong.Got, wrong.Want),
			"the upstream, or a proxy before it, serves damaged content: tell its operator")
	}
	return err
}

// placedReader reads while there is a place for it.
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

// boundedReader reads a body that has size bytes and fails when more come, before any of those is handed on.
type boundedReader struct {
	from       io.Reader
	size, left int64
}

func (r *boundedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p[:min(int64(len(p)), r.left+1)])
	if int64(n) > r.left {
		n, err = int(r.left), &tooLongError{promised: r.size, told: -1}
	}
	r.left -= int64(n)
	return n, err
}

// A tooLongError says that an upstream's blob has more bytes than a manifest or the upstream itself promised.
type tooLongError struct{ promised, told int64 } // told is -1 when the bytes came

func (e *tooLongError) Error() string {
	if e.told < 0 {
		return fmt.Sprintf("the upstream sends more than the %d bytes that were promised", e.promised)
	}
	return fmt.Sprintf("the upstream has %d bytes, the manifest names %d", e.told, e.promised)
}

// closeQuietly: a file that was only read from has nothing to lose.
func closeQuietly(f *os.File) {
	if f != nil {
		_ = f.Close()
	}
}
