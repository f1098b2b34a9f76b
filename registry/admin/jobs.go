package admin

import (
	"encoding/json"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/openapi"
	"github.com/mirror-appliance/appliance/registry/jobs"
)

// progressEvery is how often a job tells its progress, also if it is the same, so that the caller
// knows that it goes on.
const progressEvery = time.Second

// handleJob makes runner answer a job.
func handleJob[Q, P, R any](h *Handler, job api.Job[Q, P, R], runner *jobs.Runner[Q, P, R]) {
	routeJob(h, job, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		most := int64(api.MaxJSON)
		if large, ok := any(q).(interface{ MaxBytes() int64 }); ok {
			most = large.MaxBytes()
		}
		if err := decode(r, most, &q); err != nil {
			h.refuse(w, r, err)
			return
		}
		runJob(h, w, r, q, runner, func() { h.audit(r, path.Base(job.Path)+" began") })
	})
}

// runJob answers a job's request, and calls began once the work begins. The work lasts as long as its
// caller listens, unless the caller detaches it.
func runJob[Q, P, R any](h *Handler, w http.ResponseWriter, r *http.Request, q Q, runner *jobs.Runner[Q, P, R], began func()) {
	if d, ok := any(q).(interface{ Detached() bool }); ok && d.Detached() {
		err := h.isDaemon()
		if err == nil {
			err = runner.Start(q)
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		began()
		write(w, http.StatusAccepted, nil)
		return
	}
	work, err := runner.Begin(r.Context())
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	began()
	h.serveJob(w, r, func(progress func(any)) (any, error) {
		return work(r.Context(), q, func(p P) { progress(p) })
	})
}

// routeJob makes serve answer the path of a job.
func routeJob[Q, P, R any](h *Handler, job api.Job[Q, P, R], serve http.HandlerFunc) {
	h.route(openapi.JobOf(job), serve)
}

// serveJob answers with the lines of a job.
func (h *Handler) serveJob(w http.ResponseWriter, r *http.Request, run func(progress func(any)) (any, error)) {
	l := &lines{out: w}
	stop := l.repeat()
	result, err := run(l.progress)
	stop()
	switch {
	case err == nil:
		l.send(map[string]any{"result": result})
	case !l.begun:
		h.refuse(w, r, err)
	default:
		l.send(api.Line{Refusal: refusalOf(err), Status: statusOf(err)})
	}
}

// lines is the answer of a job.
type lines struct {
	out http.ResponseWriter

	mu     sync.Mutex // guards what follows, and out
	begun  bool
	newest any // the progress; nil: none yet
	last   time.Time
}

// repeat sends the progress every second until stop is called.
func (l *lines) repeat() (stop func()) {
	ticker := time.NewTicker(progressEvery)
	ended, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		for {
			select {
			case <-ticker.C:
				l.mu.Lock()
				if l.newest != nil {
					l.tell()
				}
				l.mu.Unlock()
			case <-ended:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(ended)
		<-told
	}
}

// progress sends v at once, or within a second.
func (l *lines) progress(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = v
	if time.Since(l.last) >= progressEvery {
		l.tell()
	}
}

// tell sends the progress; the caller holds mu.
func (l *lines) tell() {
	l.last = time.Now()
	l.send(map[string]any{"progress": l.newest})
}

// send sends a line. An error ends the request's context, and with it the job.
func (l *lines) send(v any) {
	if !l.begun {
		l.begun = true
		l.out.Header().Set("Cache-Control", "no-store")
		l.out.Header().Set("Server", api.Product)
		l.out.Header().Set("Content-Type", "application/x-ndjson")
	}
	_ = json.NewEncoder(l.out).Encode(v)
	_ = http.NewResponseController(l.out).Flush()
}
