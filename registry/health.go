package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store"
)

const checkLimit = 5 * time.Second

// health answers /health/instance. The services have Quay's names, since scripts look for them;
// each is really checked, by what does that service's work here.
type health struct {
	checks []check
	places func() []error // which places for clients are all taken; nil: there are no listeners
	log    *slog.Logger
	flight singleflight.Group // a flood of questions is not a flood of checks
}

type check struct {
	service string
	run     func(ctx context.Context) error
	// vital is what a restart might mend. The watchdog looks at nothing else: to restart a
	// registry because its disk is full would end the pulls that still work.
	vital bool
}

func newHealth(d *daemon) *health {
	return &health{log: d.log, checks: []check{
		{"auth", d.checkAuth, true},
		{"database", d.checkDatabase, true},
		{"disk_space", d.checkStorage, false},
		{"registry_gunicorn", d.checkAPI, true},
		{"service_key", d.checkCertificate, false},
		{"web_gunicorn", d.checkControl, true},
	}}
}

func (d *daemon) checkAuth(ctx context.Context) error {
	_, _, err := users{d.store}.Lookup(ctx, "init")
	return err
}

// checkDatabase returns an error unless the database answers and no query has found it damaged.
func (d *daemon) checkDatabase(ctx context.Context) error {
	return errors.Join(d.store.Check(ctx)["database"], d.store.Damage())
}

// checkStorage reports whether pushes find a storage that can be written, with space.
func (d *daemon) checkStorage(ctx context.Context) error {
	if err := d.store.Check(ctx)["storage"]; err != nil {
		return err
	}
	return d.store.CheckSpace()
}

// checkAPI asks /v2/ as a client would, past the login.
func (d *daemon) checkAPI(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v2/", http.NoBody)
	if err != nil {
		return err
	}
	w := &statusOnly{header: http.Header{}}
	d.api.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		return fmt.Errorf("/v2/ answers %d", w.status)
	}
	return nil
}

func (d *daemon) checkCertificate(context.Context) error {
	refused, _ := d.tls.Trouble()
	return errors.Join(refused...)
}

// warnOfCertificate calls logCertificate at the start and daily.
func (d *daemon) warnOfCertificate(ctx context.Context) error {
	return every(ctx, 0, 24*time.Hour, d.logCertificate)
}

// logCertificate logs what clients refuse of the certificate, or soon will.
func (d *daemon) logCertificate() {
	refused, soon := d.tls.Trouble()
	for _, err := range refused {
		d.log.Error("clients refuse the certificate", "error", err, "hint", "appliance status says what to do")
	}
	for _, err := range soon {
		d.log.Warn("clients will soon refuse the certificate", "error", err, "hint", "appliance status says what to do")
	}
}

func (d *daemon) checkControl(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "unix", d.cfg.ControlSocket)
	if err != nil {
		return err
	}
	return c.Close()
}

// findings are what the checks found.
type findings struct {
	services map[string]bool
	// exhausted is what there is none left of. It is not held against a service: the registry is at work, and serves
	// again as soon as a client goes.
	exhausted []error
}

func (f findings) healthy() bool {
	return !slices.Contains(slices.Collect(maps.Values(f.services)), false)
}

// report runs all checks. Requests that come meanwhile share the result.
func (h *health) report(ctx context.Context) findings {
	shared, _, _ := h.flight.Do("", func() (any, error) {
		// Other requests may wait for the result when the first is cancelled.
		return h.examine(context.WithoutCancel(ctx)), nil
	})
	return shared.(findings)
}

// examine tells of each service whether it is well. Why one is not is logged and not told, since
// the question needs no login.
func (h *health) examine(ctx context.Context) findings {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	found := findings{services: map[string]bool{}}
	out := outOfDescriptors()
	for _, c := range h.checks {
		err := c.run(ctx)
		if err != nil && isExhaustion(err) {
			out, err = true, nil
		}
		found.services[c.service] = err == nil
		if err != nil {
			h.log.Warn("health check failed", "service", c.service, "error", err)
		}
	}
	if out {
		found.exhausted = append(found.exhausted, hint.New(errors.New("no file descriptors are left"), exhaustionHint))
	}
	if h.places != nil {
		found.exhausted = append(found.exhausted, h.places()...)
	}
	for _, err := range found.exhausted {
		h.log.Warn("the registry is at its limit", "error", err, "hint", exhaustionHint)
	}
	return found
}

// alive is for the watchdog. No restart mends a damaged database, and it would end the pulls that still work.
func (h *health) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	for _, c := range h.checks {
		if !c.vital {
			continue
		}
		err := c.run(ctx)
		switch {
		case err == nil || errors.As(err, new(*store.CorruptError)):
		case isExhaustion(err):
			h.log.Warn("health check failed, since there are no descriptors left; that is not for a restart to mend", "service", c.service, "error", err)
		default:
			return fmt.Errorf("%s: %w", c.service, err)
		}
	}
	return nil
}

// isExhaustion reports whether a check failed for want of descriptors, as itself says or as one finds now: SQLite has no
// such error.
func isExhaustion(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || outOfDescriptors()
}

// outOfDescriptors reports whether the process, or the host, has as many files open as it may. Then no check that needs
// one tells anything of its service, and a restart would end the pulls that still work.
func outOfDescriptors() bool {
	f, err := os.Open(os.DevNull)
	if err == nil {
		_ = f.Close()
	}
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// instance is the answer, to the letter as Quay gives it. Notes are Quay's too, and absent where there is nothing to note.
type instance struct {
	Data struct {
		Services map[string]bool `json:"services"`
		Notes    []string        `json:"notes,omitempty"`
	} `json:"data"`
	StatusCode int `json:"status_code"`
}

func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found := h.report(r.Context())
	var a instance
	a.Data.Services, a.StatusCode = found.services, http.StatusOK
	for _, err := range found.exhausted {
		a.Data.Notes = append(a.Data.Notes, err.Error())
	}
	if !found.healthy() {
		a.StatusCode = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(a.StatusCode)
	_ = json.NewEncoder(w).Encode(a) // a client that went away needs no answer
}

// statusOnly is a ResponseWriter that keeps the status and nothing else.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header { return w.header }

func (w *statusOnly) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *statusOnly) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}
