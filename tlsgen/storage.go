package tlsgen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddyserver/certmagic"
)

var errClosed = errors.New("the certificate manager is closed")

// storage is certmagic's file storage with a lock in this process, which alone uses the files. A
// lock file would survive a power cut, delay the next start until it is stale, and need a goroutine
// that refreshes it.
//
// A renewal happens as a whole under the lock, so that the lock is also the way to close a manager.
type storage struct {
	*certmagic.FileStorage
	issuing chan struct{} // has one element while a certificate is obtained, and once closed
	closed  chan struct{}
}

func newStorage(dir string) *storage {
	return &storage{
		FileStorage: &certmagic.FileStorage{Path: dir},
		issuing:     make(chan struct{}, 1),
		closed:      make(chan struct{}),
	}
}

// Lock takes the lock. There is one certificate, so there is one lock, whatever the name.
func (s *storage) Lock(ctx context.Context, _ string) error {
	select {
	case s.issuing <- struct{}{}:
		return nil
	case <-s.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryLock is Lock without waiting.
func (s *storage) TryLock(context.Context, string) (bool, error) {
	select {
	case s.issuing <- struct{}{}:
		return true, nil
	default:
		return false, nil
	}
}

// Unlock releases the lock.
func (s *storage) Unlock(context.Context, string) error {
	<-s.issuing
	return nil
}

func (s *storage) close() {
	close(s.closed)
	s.issuing <- struct{}{}
}

// prime replaces the content of the storage by a pair. certmagic writes its three files one after
// the other, and would not start on a part of them, which a power cut leaves.
func (s *storage) prime(ctx context.Context, issuerKey, name string, pair keyPair) error {
	meta, err := json.Marshal(certmagic.CertificateResource{SANs: []string{name}})
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	keys := certmagic.StorageKeys
	for _, item := range []struct {
		key   string
		value []byte
	}{
		{keys.SitePrivateKey(issuerKey, name), pair.keyPEM},
		{keys.SiteCert(issuerKey, name), pair.certPEM},
		{keys.SiteMeta(issuerKey, name), meta},
	} {
		if held, err := s.Load(ctx, item.key); err == nil && bytes.Equal(held, item.value) {
			continue
		}
		if err := s.Store(ctx, item.key, item.value); err != nil {
			return err
		}
	}
	return nil
}
