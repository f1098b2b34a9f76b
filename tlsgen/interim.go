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
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// interim serves a leaf that is in memory, or in the files only, while the disk is too full for certmagic's: clients can pull,
// and delete to make space. It retries until there is space.
type interim struct {
	cert   *tls.Certificate
	cause  error
	inner  atomic.Pointer[managed] // nil until there is room
	cancel context.CancelFunc
	done   chan struct{}
}

// startInterim follows a start that failed with cause.
func startInterim(ctx context.Context, o Options, cause error) (*interim, error) {
	cert, err := interimCert(o)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	o.Log.Error("the certificate cannot be written; one that is only in memory is served until there is room", "file", o.CertFile, "error", cause)
	i := &interim{cert: cert, cause: cause, done: make(chan struct{})}
	ctx, i.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go i.retry(ctx, o)
	return i, nil
}

// interimCert returns the pair in the files if it is fit, else a new one.
func interimCert(o Options) (*tls.Certificate, error) {
	_, old, err := readPair(o.CertFile, o.KeyFile)
	if err == nil && o.unfit(old.Leaf) == nil {
		return old, nil
	}
	certPEM, keyPEM, err := o.CA.issueLeaf(o.Names, o.Now(), o.lifetime)
	if err != nil {
		return nil, err
	}
	fresh, err := tls.X509KeyPair(certPEM, keyPEM)
	return &fresh, err
}

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
			o.Log.Info("there is room for the certificate again", "file", o.CertFile)
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

// trouble returns nil once there is space.
func (i *interim) trouble(file string) error {
	if i.inner.Load() != nil {
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
