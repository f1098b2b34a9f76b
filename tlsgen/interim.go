package tlsgen

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"syscall"
	"time"
)

// isFull reports whether a disk has no room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// interim serves a leaf of our CA that is nowhere but in memory, or in the files alone, while the disk is too full for
// certmagic's: what is stored can be pulled, and deleting is what makes room. It tries again until there is.
type interim struct {
	cert   *tls.Certificate
	cause  error
	inner  atomic.Pointer[managed] // nil until there is room
	cancel context.CancelFunc
	done   chan struct{}
}

// startInterim takes over from a start that failed because of cause.
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

// interimCert is the pair in the files if it will do, else a new one.
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

// trouble is nil once there is room.
func (i *interim) trouble(file string) error {
	if i.inner.Load() != nil {
		return nil
	}
	return &Error{File: file, Problem: "the certificate that is served is not kept", Remedy: "free space on that disk; the certificate is written within a minute", Err: i.cause}
}

func (i *interim) close() {
	i.cancel()
	<-i.done
	if inner := i.inner.Load(); inner != nil {
		inner.close()
	}
}
