package installer

import (
	"context"
	"fmt"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// portOpen reports whether firewalld runs, and lets clients reach a port.
func portOpen(ctx context.Context, h *host.Host, port int) (runs, open bool) {
	if _, err := h.StatTarget("/usr/bin/firewall-cmd"); err != nil {
		return false, false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if _, err := h.Run(ctx, "firewall-cmd", "--state"); err != nil {
		return false, false
	}
	_, err := h.Run(ctx, "firewall-cmd", fmt.Sprintf("--query-port=%d/tcp", port))
	if err != nil && port == 443 {
		_, err = h.Run(ctx, "firewall-cmd", "--query-service=https")
	}
	return true, err == nil
}

// portClosed returns what is wrong then, and what to do.
func portClosed(port int) (what, remedy string) {
	return fmt.Sprintf("port %d is not open in the default zone of firewalld", port),
		fmt.Sprintf("sudo firewall-cmd --permanent --add-port=%d/tcp && sudo firewall-cmd --reload", port)
}

// openPort lets clients reach the port through firewalld, now and after a restart of it.
type openPort struct {
	host *host.Host
	Port int `json:"port"`
}

func (s *openPort) String() string { return fmt.Sprintf("open port %d in firewalld", s.Port) }

// Taken is as in lasting.
func (s *openPort) Taken() string { return fmt.Sprintf("close port %d in firewalld", s.Port) }

func (s *openPort) Check(ctx context.Context) (*host.Before, error) {
	if runs, open := portOpen(ctx, s.host, s.Port); !runs || open {
		return nil, nil
	}
	return &host.Before{}, nil
}

func (s *openPort) Apply(ctx context.Context) (bool, error) { return s.change(ctx, "--add-port") }

func (s *openPort) Undo(ctx context.Context, _ *host.Before) (bool, error) {
	if runs, open := portOpen(ctx, s.host, s.Port); !runs || !open {
		return false, nil
	}
	return s.change(ctx, "--remove-port")
}

func (s *openPort) change(ctx context.Context, how string) (bool, error) {
	for _, lasts := range [][]string{{"--permanent"}, nil} {
		args := append(lasts, fmt.Sprintf("%s=%d/tcp", how, s.Port))
		if out, err := s.host.Run(ctx, "firewall-cmd", args...); err != nil {
			return true, fmt.Errorf("firewall-cmd %s: %w: %s", how, err, out)
		}
	}
	return true, nil
}
