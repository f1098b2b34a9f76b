package tlsgen

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"
)

// Options say which certificate to serve and where it lives.
type Options struct {
	Names    []string // DNS names and addresses that clients use
	CA       *CA      // nil: the files are the user's own
	CertFile string   // leaf followed by what signed it, 0644
	KeyFile  string   // 0600
	StateDir string   // certmagic's storage; only with a CA
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

// Manager keeps one certificate valid and serves it.
type Manager struct{}

// NewManager returns once there is a certificate to serve.
func NewManager(ctx context.Context, o Options) (*Manager, error) {
	return nil, errors.New("not yet")
}

// TLSConfig is what listeners use: TLS 1.2 or later, HTTP/2 and HTTP/1.1.
func (m *Manager) TLSConfig() *tls.Config { return nil }

// NotAfter says until when the certificate now served is valid.
func (m *Manager) NotAfter() time.Time { return time.Time{} }

// Close ends everything the manager started.
func (m *Manager) Close() error { return nil }
