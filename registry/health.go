package registry

import (
	"cmp"
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
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/limits"
	"github.com/mirror-appliance/appliance/registry/store"
)

const checkLimit = 5 * time.Second

// health answers /health/instance. The services have Quay's names, since scripts look for them;
// each check asks the part that does the service's work here.
type health struct {
	checks []check
	places func() []error // lists the places for clients that are all taken; nil: no listeners
	log    *slog.Logger
	limit  time.Duration      // of each check, in tests; 0: checkLimit
	flight singleflight.Group // requests share a report, and reports a check that lasts
}

type check struct {
	service string
	run     func(ctx context.Context) error
	// vital means that a restart might repair it. The watchdog runs no other check: a restart
	// because the disk is full would end the pulls that still work.
	vital bool
	// server is the address of the server that it asks, and next what to do about one without an answer; "": none.
	server, next string
}

// late returns the error of a check without an answer.
func (c check) late(limit time.Duration) error {
	err := fmt.Errorf("no answer within %s", limit)
	if c.server == "" {
		return fmt.Errorf("%s: %w", c.service, err)
	}
	return &store.UnavailableError{Database: c.server, Next: c.next, Err: err}
}

func newHealth(d *daemon) *health {
	restarts := d.cfg.DatabaseServer() == "" // a server that does not answer is not repaired by a restart of this program
	database := check{service: "database", run: d.checkDatabase, vital: restarts}
	if !restarts {
		database.server, database.next = d.cfg.DatabaseName(), pgurl.Again
	}
	return &health{log: d.log, checks: []check{
		{service: "auth", run: d.checkAuth, vital: restarts},
		database,
		{service: "disk_space", run: d.checkStorage},
		{service: "registry_gunicorn", run: d.checkAPI, vital: true},
		{service: "service_key", run: d.checkCertificate},
		{service: "web_gunicorn", run: d.checkControl, vital: true},
	}}
}

func (d *daemon) checkAuth(ctx context.Context) error {
	_, _, err := users{d.store}.Lookup(ctx, "init")
	return err
}

// checkDatabase returns an error unless the database answers and no query has found it damaged.
func (d *daemon) checkDatabase(ctx context.Context) error {
	err := d.store.CheckDatabase(ctx)
	if damage := d.store.Damage(); damage != nil {
		return damage
	}
	var down *store.UnavailableError
	if errors.As(err, &down) {
		return down // which names the server
	}
	return err
}

// checkStorage returns an error unless pushes find a writable storage with space.
func (d *daemon) checkStorage(ctx context.Context) error {
	if err := d.store.CheckStorage(ctx); err != nil {
		return err
	}
	return d.store.CheckSpace()
}

// checkAPI requests /v2/, past the login.
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

// logCertificate logs why clients refuse the certificate, and what else needs attention.
func (d *daemon) logCertificate() {
	refused, notices := d.tls.Trouble()
	for _, err := range refused {
		d.log.Error("clients refuse the certificate", "error", err, "hint", "appliance status says what to do")
	}
	for _, err := range notices {
		d.log.Warn("the certificate needs attention", "error", err, "hint", "appliance status says what to do")
	}
}

func (d *daemon) checkControl(ctx context.Context) error {
	c, err := new(net.Dialer).DialContext(ctx, "unix", d.cfg.ControlSocket)
	if err != nil {
		return err
	}
	return c.Close()
}

// findings are the results of the checks.
type findings struct {
	services map[string]bool
	reasons  map[string]error // of the services that fail
	// exhausted lists resources that clients have used up. No service fails for it: the registry
	// works, and serves again as soon as a client goes.
	exhausted []error
}

func (f findings) healthy() bool {
	return !slices.Contains(slices.Collect(maps.Values(f.services)), false)
}

// report runs all checks. Requests that arrive meanwhile share the result.
func (h *health) report(ctx context.Context) findings {
	shared, _, _ := h.flight.Do("", func() (any, error) {
		// Other requests may wait for the result when the first is cancelled.
		return h.examine(context.WithoutCancel(ctx)), nil
	})
	return shared.(findings)
}

// examine runs the checks.
func (h *health) examine(ctx context.Context) findings {
	found := findings{services: map[string]bool{}, reasons: map[string]error{}}
	out := outOfDescriptors()
	for i, err := range h.run(ctx, h.checks) {
		service := h.checks[i].service
		if err != nil && isExhaustion(err) {
			out, err = true, nil
		}
		found.services[service] = err == nil
		if err != nil {
			found.reasons[service] = err
			h.log.Warn("health check failed", "service", service, "error", err)
		}
	}
	if out {
		found.exhausted = append(found.exhausted, limits.Exhaustion("no file descriptors are left"))
	}
	if h.places != nil {
		found.exhausted = append(found.exhausted, h.places()...)
	}
	for _, err := range found.exhausted {
		h.log.Warn("the registry is at its limit", "error", err, "hint", hint.Of(err))
	}
	return found
}

// run runs checks, all at once: one that waits for a storage leaves the others their time. It returns their errors.
// A check may last longer than its context: one that waits for a server that is silent. The next run finds it
// still under way.
func (h *health) run(ctx context.Context, checks []check) []error {
	limit := cmp.Or(h.limit, checkLimit)
	late, end := context.WithTimeout(ctx, limit+limit/5) // checks that were ended tell why
	defer end()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ended := func(c check, err error) error {
		if c.server != "" && errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(*store.UnavailableError)) {
			return c.late(limit)
		}
		return err
	}
	results := make([]<-chan singleflight.Result, len(checks))
	for i, c := range checks {
		results[i] = h.flight.DoChan("check "+c.service, func() (any, error) { return nil, c.run(ctx) })
	}
	errs := make([]error, len(checks))
	for i := range checks {
		select {
		case r := <-results[i]:
			errs[i] = ended(checks[i], r.Err)
		case <-late.Done():
			select {
			case r := <-results[i]: // while another was waited for
				errs[i] = ended(checks[i], r.Err)
			default:
				errs[i] = checks[i].late(limit)
			}
		}
	}
	return errs
}

// alive is for the watchdog. A restart repairs no damaged database, and would end the pulls that
// still work.
func (h *health) alive(ctx context.Context) error {
	vital := slices.DeleteFunc(slices.Clone(h.checks), func(c check) bool { return !c.vital })
	for i, err := range h.run(ctx, vital) {
		switch {
		case err == nil || errors.As(err, new(*store.CorruptError)):
		case isExhaustion(err):
			h.log.Warn("health check failed for want of descriptors, which a restart does not repair",
				"service", vital[i].service, "error", err)
		default:
			return fmt.Errorf("%s: %w", vital[i].service, err)
		}
	}
	return nil
}

// isExhaustion reports whether a check failed for want of descriptors: its error says so, or there
// are none now. SQLite has no such error.
func isExhaustion(err error) bool { return noDescriptor(err) || outOfDescriptors() }

// outOfDescriptors reports whether the process, or the host, has as many files open as it may.
func outOfDescriptors() bool {
	f, err := os.Open(os.DevNull)
	if err == nil {
		_ = f.Close()
	}
	return noDescriptor(err)
}

func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// instance is the answer in Quay's form.
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

// statusOnly is a ResponseWriter that keeps the status.
type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) WriteHeader(status int)      { w.status = status }
func (w *statusOnly) Write(p []byte) (int, error) { return len(p), nil }
