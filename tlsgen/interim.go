package tlsgen

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"syscall"
	"time"
)

// isFull reports whether an error says that a disk has no space.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// interim serves a leaf in whose place certmagic's would be. It changes no file.
//
// Under a CA that has expired, or seems so to a host whose clock is ahead, it serves until the next
// start. While the disk is too full for certmagic, clients can pull, and delete to make space:
// interim retries until there is space.
type interim struct {
	cert   *tls.Certificate
	cause  error                   // of a start that is retried; nil: none
	inner  atomic.Pointer[managed] // nil until there is space
	cancel context.CancelFunc
	done   chan struct{}
}

// startInterim retries a start that failed with cause; without one it does not.
func startInterim(ctx context.Context, o Options, cause error) (*interim, error) {
	cert, err := o.unwrittenLeaf()
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	i := &interim{cert: cert, cause: cause, done: make(chan struct{})}
	ctx, i.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if cause == nil {
		close(i.done)
		return i, nil
	}
	o.Log.Error("the certificate cannot be written; one in memory is served until there is space",
		"file", o.CertFile, "error", cause)
	go i.retry(ctx, o)
	return i, nil
}

// unwrittenLeaf returns the pair in the files if it is fit, else a new one.
func (o Options) unwrittenLeaf() (*tls.Certificate, error) {
	_, old, err := readPair(o.CertFile, o.KeyFile)
	if err == nil && o.unfit(old.Leaf) == nil {
		return old, nil
	}
	now, lifetime := o.Now(), o.lifetime
	if o.expired() { // as long as the CA: the clocks of the clients are not known
		now = o.CA.cert.NotBefore
		lifetime = o.CA.NotAfter().Sub(now)
	}
	certPEM, keyPEM, err := o.CA.issueLeaf(o.Names, now, lifetime)
	if err != nil {
		return nil, err
	}
	fresh, err := tls.X509KeyPair(certPEM, keyPEM)
	return &fresh, err
}

// expired reports whether the CA has expired by this host's clock.
func (o Options) expired() bool { return o.Now().After(o.CA.NotAfter()) }

func (i *interim) retry(ctx context.Context, o Options) {
	defer close(i.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(o.pollEvery):
		}
		if inner, err := startManaged(ctx, o); err == nil {
			i.inner.Store(inner)
			o.Log.Info("the certificate is written: there is space again", "file", o.CertFile)
			return
		}
	}
}

func (i *interim) current() (*tls.Certificate, error) {
	if inner := i.inner.Load(); inner != nil {
		return inner.current()
	}
	return i.cert, nil
}

// renew renews once there is space.
func (i *interim) renew(ctx context.Context) error {
	if inner := i.inner.Load(); inner != nil {
		return inner.renew(ctx)
	}
	if i.cause != nil {
		return fault("", "the certificate cannot be renewed", "free space on its disk", i.cause)
	}
	return fault("", "the CA has expired and can sign nothing any more",
		"check this host's clock; if it is right, make a new CA: appliance cert rotate-ca", nil)
}

// trouble returns nil once there is space.
func (i *interim) trouble(file string) error {
	if i.cause == nil || i.inner.Load() != nil {
		return nil
	}
	return fault(file, "the certificate that is served is not kept",
		"free space on that disk; the certificate is written within a minute", i.cause)
}

func (i *interim) close() {
	i.cancel()
	<-i.done
	if inner := i.inner.Load(); inner != nil {
		inner.close()
	}
}
