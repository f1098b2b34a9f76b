package installer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// health waits until the daemon is healthy.
type health struct {
	action
	bus   *bus
	host  *host.Host
	cfg   *config.Config
	check func(ctx context.Context, cfg *config.Config) error

	began    time.Time
	restarts *uint32 // of the daemon by then
}

func (s *health) String() string {
	return "wait until https://" + s.cfg.Address() + "/health/instance answers"
}

func (s *health) waits() bool { return true }

const (
	healthLimit = 60 * time.Second
	healthEvery = 250 * time.Millisecond
)

func (s *health) Apply(ctx context.Context) (bool, error) {
	s.began = time.Now()
	limited, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	for {
		err := s.check(limited, s.cfg)
		if err == nil {
			return false, nil
		}
		if dead := s.dead(ctx); dead != nil {
			return false, withJournal(ctx, s.host, s.bus.user, s.began, errors.Join(dead, err))
		}
		select {
		case <-time.After(healthEvery):
		case <-limited.Done():
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			err = fmt.Errorf("the daemon is not healthy after %s: %w", healthLimit, err)
			return false, withJournal(ctx, s.host, s.bus.user, s.began, err)
		}
	}
}

// dead returns an error if the daemon has ended: systemd would restart it for ever.
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

// loopback is where the daemon is asked so that neither DNS nor a firewall matters: a host may have
// one of the two protocols alone.
var loopback = []string{"127.0.0.1", "::1"}

// checkHealth asks the daemon once, as a client that trusts the CA, at the loopback address.
func checkHealth(ctx context.Context, cfg *config.Config) error {
	return askHealth(ctx, cfg, cfg.PortHere(), loopback...)
}

// reach asks the daemon by its name.
func reach(ctx context.Context, cfg *config.Config) error {
	return askHealth(ctx, cfg, cfg.Port, cfg.Hostname)
}

// unwellError is an answer of the daemon, which is not that it is healthy.
type unwellError struct{ status, body string }

func (e *unwellError) Error() string { return "/health/instance answers " + e.status + ": " + e.body }

// askHealth asks the daemon at the first of some hosts that has it.
func askHealth(ctx context.Context, cfg *config.Config, port int, at ...string) error {
	status, body, err := get(ctx, cfg, port, at, "/health/instance", 4096)
	if status == "" || strings.HasPrefix(status, "200") {
		return err
	}
	return errors.Join(&unwellError{status, string(bytes.TrimSpace(body))}, err)
}

// Get returns what the daemon of this host answers to a client without a login, at most limit bytes.
func Get(ctx context.Context, cfg *config.Config, path string, limit int64) ([]byte, error) {
	status, body, err := get(ctx, cfg, cfg.PortHere(), loopback, path, limit)
	if err == nil && !strings.HasPrefix(status, "200") {
		err = fmt.Errorf("%s answers %s", path, status)
	}
	return body, err
}

// get asks the daemon at the first of some hosts that has it, as a client that trusts the CA. The
// status is empty without an answer.
func get(ctx context.Context, cfg *config.Config, port int, at []string, path string, limit int64) (status string, body []byte, err error) {
	trust, err := trusted(cfg)
	if err != nil {
		return "", nil, err
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		TLSClientConfig:   trust,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var errs []error
			for _, name := range at {
				conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(name, strconv.Itoa(port)))
				if err == nil {
					return conn, nil
				}
				errs = append(errs, err)
			}
			return nil, errors.Join(errs...)
		},
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+cfg.Address()+path, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit))
	return resp.Status, body, err
}

// trusted returns how to recognize the daemon: by its CA or, with a user's own certificate, by that
// certificate, which may be of an authority that this host does not know, and for another name.
func trusted(cfg *config.Config) (*tls.Config, error) {
	file := cfg.TLS.CA
	if cfg.TLS.CAKey == "" {
		file = tlsgen.OwnFile(cfg.TLS.Certificate, cfg.TLS.Key)
	}
	content, err := host.Local().ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the certificate to trust: %w", err)
	}
	c := &tls.Config{ServerName: cfg.Hostname, MinVersion: tls.VersionTLS12}
	if cfg.TLS.CAKey != "" {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM(content)
		if cfg.TLS.ACME.Directory != "" { // whose CA this host may not know
			c.ServerName = "localhost"
		}
		return c, nil
	}
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
			if bytes.Equal(block.Bytes, state.PeerCertificates[0].Raw) {
				return nil
			}
		}
		return fmt.Errorf("the certificate served is not the one in %s", file)
	}
	return c, nil
}

// seed has the caller make the first users. Undoing the database undoes them.
type seed struct {
	action
	journal *host.Journal
	in      Installation
	do      func(ctx context.Context, in Installation) (seeding, error)
	foresee func(ctx context.Context, in Installation) (seeding, error)
	done    seeding
}

func (s *seed) String() string {
	made := "the user " + PullerUser + " (pull)"
	switch d := s.done; {
	case d.puller && !d.password && d.first:
		return "create " + made + ", whose login for clusters is in " + PullSecretFile(s.in.QuayRoot)
	case d.puller && !d.password:
		return "give the user " + PullerUser + " a new password, that of " + PullSecretFile(s.in.QuayRoot) +
			": clusters need it in the place of the old one"
	case d.password && !d.puller:
		return "create the user " + s.in.InitUser + " (admin), or give it a new password where no run has shown the last"
	}
	return "create the users " + s.in.InitUser + " (admin) and puller (pull)"
}

// pending returns the line of what it would do, "" for nothing. That is not known while the daemon gives no
// answer.
func (s *seed) pending(ctx context.Context) (line string, known bool) {
	done, err := s.foresee(ctx, s.in)
	if err != nil {
		return "", false
	}
	if !done.password && !done.puller {
		return "", true
	}
	then := *s
	then.done, then.in.InitUser = done, done.admin
	return then.String(), true
}

func (s *seed) Apply(ctx context.Context) (changed bool, err error) {
	// What has users is in use. A run that is killed from here on is not undone by the next.
	if err := s.journal.Finish(); err != nil {
		return false, err
	}
	s.done, err = s.do(ctx, s.in)
	s.in.InitUser = cmp.Or(s.done.admin, s.in.InitUser)
	return s.done.password || s.done.puller, err
}

// generatePassword returns 160 bits as letters and digits, which need no quotes in shells, URLs and
// YAML.
func generatePassword() string { return (rand.Text() + rand.Text())[:32] }
