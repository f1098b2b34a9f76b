package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

var (
	// ErrNotRunning is the error of a socket on which no daemon answers.
	ErrNotRunning = errors.New("the registry is not running on this host")
	// ErrNotFound is in a Refused of status 404.
	ErrNotFound = errors.New("not found")
)

// Refused is an answer of the daemon that is an error.
type Refused struct {
	Status  int
	Refusal api.Refusal

	foreign bool // the header Server is not an appliance's
}

func (e *Refused) Error() string { return e.Refusal.Problem }

// Hint returns the daemon's hint.
func (e *Refused) Hint() string { return e.Refusal.Hint }

// Is lets a refusal of status 404 be ErrNotFound.
func (e *Refused) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound
}

// Refused reports whether the same request would be refused again: the disk is full, the run is
// gone, the user is not allowed. Other answers may depend on how the request arrived.
func (e *Refused) Refused() bool { return refusedAgain(e.Status) }

// Mismatch reports whether the content may have had another digest than the request named.
func (e *Refused) Mismatch() bool { return e.Status == http.StatusBadRequest }

// NotApplianceError reports that something other than an appliance has answered. Its status does
// not matter: the web console of another program answers 200 to each path.
type NotApplianceError struct {
	Answer string // its status line
	status int
}

func (e *NotApplianceError) Error() string {
	return "the answer was " + e.Answer + ", and not an appliance's"
}

// Hint returns what to check.
func (e *NotApplianceError) Hint() string {
	return "make sure that the address is an appliance's, and that no proxy stands between"
}

// Refused is that of [Refused], for a proxy that answers in the middle of a sync.
func (e *NotApplianceError) Refused() bool { return refusedAgain(e.status) }

func refusedAgain(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusInsufficientStorage:
		return true
	}
	return false
}

func refused(resp *http.Response) error {
	var a api.Refusal
	data, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxJSON))
	if err != nil || json.Unmarshal(data, &a) != nil || a.Problem == "" {
		return notAppliance(resp)
	}
	return &Refused{Status: resp.StatusCode, Refusal: a, foreign: resp.Header.Get("Server") != api.Product}
}

// orForeign returns a *NotApplianceError for a refusal of another server.
func orForeign(err error) error {
	var refused *Refused
	if errors.As(err, &refused) && refused.foreign {
		return &NotApplianceError{Answer: refused.Error(), status: refused.Status}
	}
	return err
}

func notAppliance(resp *http.Response) error {
	return &NotApplianceError{Answer: resp.Status, status: resp.StatusCode}
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// startHint is what to type when no daemon answers on this host.
func startHint() string {
	if os.Geteuid() == 0 {
		return "start it: systemctl start appliance; why one that was started has ended is in its log: journalctl -u appliance"
	}
	return "start it: systemctl start appliance, or systemctl --user start appliance if it was installed without root; why one that was started has ended is in its log: journalctl -u appliance, or journalctl --user -u appliance"
}

// unreachable says why there was no answer, and what to do.
func unreachable(base string, err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		request.URL, _, _ = strings.Cut(request.URL, "?") // whose parameters tell people nothing
	}
	var dial *net.OpError
	isDial := errors.As(err, &dial) && dial.Op == "dial"
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case isDial && dial.Net == "unix" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)):
		return hint.New(fmt.Errorf("%w: %w", ErrNotRunning, dial),
			startHint())
	case isDial && dial.Net == "unix" && errors.Is(err, fs.ErrPermission):
		return hint.New(dial, "run this as root, or as the user that the registry runs as")
	case isDial:
		return hint.New(fmt.Errorf("reach %s: %w", base, dial), "check the name, the port, and that the registry runs")
	case is[x509.HostnameError](err):
		return hint.New(err, "use a name that its certificate is for")
	case is[*tls.CertificateVerificationError](err):
		return hint.New(err, "trust the registry's CA: "+base+"/ca.crt belongs into /etc/containers/certs.d/"+strings.TrimPrefix(base, "https://")+"/ca.crt, or into a directory named with --dest-cert-dir")
	case errors.Is(err, context.DeadlineExceeded):
		return hint.New(fmt.Errorf("no answer from the daemon: %w", err),
			"its log says what it is doing: journalctl -u appliance")
	}
	return fmt.Errorf("speak to the daemon: %w", err)
}
