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

// storage is certmagic's file storage with a lock that lives in this process. One process owns the store and these
// files with it; a lock file would outlive a power cut, hold up the next start until it counts as stale, and leave a
// goroutine that freshens it for seconds after the lock is gone.
//
// The lock is also how a manager is closed: a renewal happens wholly under it.
type storage struct {
	*certmagic.FileStorage
	issuing chan struct{} // holds one element while a certificate is being obtained, and for ever once closed
	closed  chan struct{}
}

func newStorage(dir string) *storage {
	return &storage{
		FileStorage: &certmagic.FileStorage{Path: dir},
		issuing:     make(chan struct{}, 1),
		closed:      make(chan struct{}),
	}
}

// Lock waits for its turn. There is one certificate, so there is one lock, whatever the name.
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

// Unlock gives the turn to the next.
func (s *storage) Unlock(context.Context, string) error {
	<-s.issuing
	return nil
}

func (s *storage) close() {
	close(s.closed)
	s.issuing <- struct{}{}
}

// prime makes the storage say what the files say. Whatever it held before does not count: certmagic writes its
// three files one after the other, and would refuse to start on the halves that a power cut leaves.
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
