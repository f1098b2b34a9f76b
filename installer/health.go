package installer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// health waits until the daemon answers that it is well.
type health struct {
	bus   *bus
	host  *host.Host
	user  bool
	cfg   *config.Config
	check func(ctx context.Context, cfg *config.Config) error
	limit time.Duration
	every time.Duration

	began    time.Time
	restarts *uint32 // how often systemd had restarted the daemon then
}

func (s *health) String() string {
	return "wait until https://" + s.cfg.Address() + "/health/instance answers"
}

func (s *health) waits() {}

func (s *health) Undo(context.Context) error { return nil }

func (s *health) Apply(ctx context.Context) (bool, error) {
	s.began = time.Now()
	limited, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	for {
		err := s.check(limited, s.cfg)
		if err == nil {
			return false, nil
		}
		if dead := s.dead(ctx); dead != nil {
			return false, s.explain(ctx, errors.Join(dead, err))
		}
		select {
		case <-time.After(s.every):
		case <-limited.Done():
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			return false, s.explain(ctx, fmt.Errorf("the daemon is not well after %s: %w", s.limit, err))
		}
	}
}

// dead says that the daemon has ended, so that waiting is in vain. systemd would start it again for ever.
func (s *health) dead(ctx context.Context) error {
	status, err := s.bus.Status(ctx, systemd.Service)
	if err != nil {
		return fmt.Errorf("ask systemd for %s: %w", systemd.Service, err)
	}
	if s.restarts == nil {
		s.restarts = &status.NRestarts
	}
	if status.ActiveState == "failed" || status.NRestarts > *s.restarts {
		return fmt.Errorf("%s has ended (%s)", systemd.Service, status.Result)
	}
	return nil
}

func (s *health) explain(ctx context.Context, err error) error {
	return withJournal(ctx, s.host, s.user, s.began, err)
}

// checkHealth asks the daemon once, over TLS as a client that trusts the CA does. It dials the loopback
// address, so that neither DNS nor a firewall in between can fail a daemon that works.
func checkHealth(ctx context.Context, cfg *config.Config) error {
	roots, err := Trusted(cfg)
	if err != nil {
		return err
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: cfg.Hostname, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, loopback(cfg))
		},
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+cfg.Address()+"/health/instance", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return errors.Join(fmt.Errorf("/health/instance answers %s: %s", resp.Status, strings.TrimSpace(string(body))), err)
}

func loopback(cfg *config.Config) string {
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(cfg.Port))
}

// Trusted is the system's authorities and our CA or, with a user's own certificate, whatever its file serves, since it may
// come from an authority that this host does not know.
func Trusted(cfg *config.Config) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	files := []string{cfg.TLS.CA}
	if cfg.TLS.CAKey == "" {
		files = append(files, cfg.TLS.Certificate)
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		pem, err := host.Local().ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the certificate to trust: %w", err)
		}
		roots.AppendCertsFromPEM(pem)
	}
	return roots, nil
}

// seed has the caller make the first users.
type seed struct {
	in      Installation
	do      func(ctx context.Context, in Installation) (bool, error)
	changed bool
}

func (s *seed) String() string {
	return "create the users " + s.in.InitUser + " (admin) and puller (pull)"
}

func (s *seed) Apply(ctx context.Context) (changed bool, err error) {
	s.changed, err = s.do(ctx, s.in)
	return s.changed, err
}

// Undo has nothing to do: the users are in the database that other steps take back.
func (s *seed) Undo(context.Context) error { return nil }

// generatePassword has 160 bits, in letters and digits that every shell, URL and YAML leaves alone.
func generatePassword() string { return (rand.Text() + rand.Text())[:32] }
