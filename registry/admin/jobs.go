package admin

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// A job takes long enough that its caller wants to see it get on. Its answer is a line of JSON each time something
// is to be told, {"progress": …}, and a last one, {"result": …} or {"error": …, "hint": …, "status": …}: whether it
// succeeds is not known when the first is sent. One that fails before is refused as any request is.
//
// progress may be called as often as one likes. What it is given is told at once, or within a second, and again each
// second, so that a caller hears of a job that goes on.
type job func(ctx context.Context, progress func(any)) (result any, err error)

type jobLine struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	jobError
}

type jobError struct {
	errorAnswer
	Status int `json:"status,omitempty"`
}

// progressEvery is how often a job tells how far it is.
const progressEvery = time.Second

// errStopping ends what a daemon does for others when it is about to end.
var errStopping = &conflict{"the registry is stopping", "run it again when it is up, or while it is stopped; what is done stays done"}

// serveJob runs a job for as long as its caller listens and the daemon is not about to end: clients that push and pull
// do not wait for it, and a job can be asked for again.
func (h *Handler) serveJob(w http.ResponseWriter, r *http.Request, run job) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.drain, func() { cancel(errStopping) })()
	l := &lines{out: w}
	result, err := l.run(ctx, run)
	switch {
	case err == nil:
		l.send(map[string]any{"result": result})
		return
	case errors.Is(context.Cause(ctx), errStopping):
		err = errStopping
	case ctx.Err() != nil:
		h.log.Info("a job ended with its caller", "path", r.URL.Path)
	}
	if !l.begun {
		h.refuse(w, r, err)
		return
	}
	status := statusOf(err)
	if status == http.StatusInternalServerError {
		h.log.Error("a job failed", "path", r.URL.Path, "error", err)
	}
	l.send(jobError{errorAnswer{Error: err.Error(), Hint: hintOf(err)}, status})
}

// lines is the answer of a job.
type lines struct {
	out http.ResponseWriter

	mu     sync.Mutex // guards what follows, and out
	begun  bool
	newest any // the progress; nil: none yet
	last   time.Time
}

// run runs a job. When it returns, nothing but the last line is left to be sent.
func (l *lines) run(ctx context.Context, run job) (any, error) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	ended, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		for {
			select {
			case <-ticker.C:
				l.again()
			case <-ended:
				return
			}
		}
	}()
	defer func() {
		close(ended)
		<-told
	}()
	return run(ctx, l.progress)
}

func (l *lines) progress(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = v
	if time.Since(l.last) >= progressEvery {
		l.tell()
	}
}

func (l *lines) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest != nil {
		l.tell()
	}
}

func (l *lines) tell() {
	l.last = time.Now()
	l.send(map[string]any{"progress": l.newest})
}

// send sends a line. What goes wrong ends the request's context, and with it the job.
func (l *lines) send(v any) {
	if !l.begun {
		l.begun = true
		l.out.Header().Set("Cache-Control", "no-store")
		l.out.Header().Set("Server", Product)
		l.out.Header().Set("Content-Type", "application/x-ndjson")
	}
	_ = json.NewEncoder(l.out).Encode(v)
	_ = http.NewResponseController(l.out).Flush()
}

// begin asks for what lasts, and gives the lines of the answer, to be closed, once it has begun.
func (c *Client) begin(ctx context.Context, path string, in any) (io.ReadCloser, error) {
	body, err := encode(in)
	if err != nil {
		return nil, err
	}
	r, err := c.request(ctx, http.MethodPost, path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.patient.Do(r)
	if err != nil {
		return nil, unreachable(c.base, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, refused(resp)
	}
	return resp.Body, nil
}

// runJob is the client's side: progress is called with each line but the last, which is read into result.
func (c *Client) runJob(ctx context.Context, path string, in any, progress func(json.RawMessage) error, result any) error {
	answer, err := c.begin(ctx, path, in)
	if err != nil {
		return err
	}
	defer answer.Close()
	lines := bufio.NewScanner(answer)
	lines.Buffer(nil, maxJobLine)
	for lines.Scan() {
		var line jobLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			if lines.Err() != nil { // half a line
				break
			}
			return fmt.Errorf("read the daemon's answer to %s: %w", path, err)
		}
		switch {
		case line.Error != "":
			return &Error{Status: cmp.Or(line.Status, http.StatusInternalServerError), Product: Product, Message: line.Error, hint: line.Hint}
		case line.Result != nil:
			return json.Unmarshal(line.Result, result)
		}
		if err := progress(line.Progress); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("read the daemon's answer to %s: %w", path, err)
	}
	return &unreachableError{fmt.Errorf("the daemon stopped before %s had ended", strings.TrimPrefix(path, "/api/v1/")), "what was done until then stays done: start the daemon, and run the command again"}
}

// ask runs a job whose progress is a P and whose result is an R. progress may be nil.
func ask[P, R any](ctx context.Context, c *Client, path string, in any, progress func(P)) (R, error) {
	var result R
	err := c.runJob(ctx, path, in, func(line json.RawMessage) error {
		var p P
		if err := json.Unmarshal(line, &p); err != nil {
			return fmt.Errorf("read the daemon's answer to %s: %w", path, err)
		}
		if progress != nil {
			progress(p)
		}
		return nil
	}, &result)
	return result, err
}

// maxJobLine bounds a line: the report of a scrub lists a thousand damaged blobs with a hundred images each, which is
// 40 MB where the names are as long as they may be.
const maxJobLine = 64 << 20

// VerifyRequest asks for a verification of the store.
type VerifyRequest struct {
	Content        bool  `json:"content,omitempty"`        // read and hash every blob
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // read no faster; 0: as fast as it goes
}

// VerifyProgress is how far a verification is.
type VerifyProgress struct {
	Done store.VerifyReport `json:"done"`
	Of   store.StoreSize    `json:"of"`
}

// asked reads the request for a job into q, or refuses it. One that begins while the daemon is about to end would be
// noted as the last that there was, and have done nothing.
func (h *Handler) asked(w http.ResponseWriter, r *http.Request, q interface{ check() error }) bool {
	err := decode(r, maxJSON, q)
	if err == nil {
		err = q.check()
	}
	if err == nil && h.drain.Err() != nil {
		err = errStopping
	}
	if err != nil {
		h.refuse(w, r, err)
	}
	return err == nil
}

// checkRate is for the requests that have one.
func checkRate(bytesPerSecond int64) error {
	if bytesPerSecond < 0 {
		return &badRequest{"bytesPerSecond is negative", "leave it out to read as fast as it goes"}
	}
	return nil
}

func (q VerifyRequest) check() error { return checkRate(q.BytesPerSecond) }
func (q ScrubRequest) check() error  { return checkRate(q.BytesPerSecond) }

func (h *Handler) postGC(w http.ResponseWriter, r *http.Request) {
	var q GCRequest
	if !h.asked(w, r, &q) {
		return
	}
	if q.Detach {
		h.detach(w, r, q)
		return
	}
	h.serveJob(w, r, func(ctx context.Context, progress func(any)) (any, error) {
		return h.jobs.Collect(ctx, q, func(p GCProgress) { progress(p) })
	})
}

func (q GCRequest) check() error {
	switch {
	case q.GracePeriod != nil && *q.GracePeriod < 0:
		return &badRequest{"gracePeriod is negative", "use a duration such as 1h"}
	case q.Detach && q.DryRun:
		return &badRequest{"nobody would see what a dry run finds that nobody waits for", "wait for it"}
	}
	return nil
}

func (h *Handler) detach(w http.ResponseWriter, r *http.Request, q GCRequest) {
	if h.status == nil {
		h.refuse(w, r, errNoDaemon)
		return
	}
	if err := h.jobs.Detach(q); err != nil {
		h.refuse(w, r, err)
		return
	}
	write(w, http.StatusAccepted, nil)
}

// GC collects, and returns when that has ended. progress may be nil.
func (c *Client) GC(ctx context.Context, q GCRequest, progress func(GCProgress)) (GCResult, error) {
	q.Detach = false
	return ask[GCProgress, GCResult](ctx, c, "/api/v1/gc", q, progress)
}

// BeginGC lets the daemon collect for itself, and returns when that has begun.
func (c *Client) BeginGC(ctx context.Context, q GCRequest) error {
	q.Detach = true
	return c.json(ctx, c.http, http.MethodPost, "/api/v1/gc", q, nil)
}

func (h *Handler) verify(w http.ResponseWriter, r *http.Request) {
	var q VerifyRequest
	if !h.asked(w, r, &q) {
		return
	}
	h.serveJob(w, r, func(ctx context.Context, progress func(any)) (any, error) {
		return h.store.Integrity().Verify(ctx, store.VerifyOptions{
			Content: q.Content, BytesPerSecond: q.BytesPerSecond,
			Progress: func(done store.VerifyReport, of store.StoreSize) {
				done.Problems = nil // they come with the result
				progress(VerifyProgress{Done: done, Of: of})
			},
		})
	})
}

// Verify checks that everything holds which the store promises. progress may be nil.
func (c *Client) Verify(ctx context.Context, q VerifyRequest, progress func(VerifyProgress)) (store.VerifyReport, error) {
	return ask[VerifyProgress, store.VerifyReport](ctx, c, "/api/v1/verify", q, progress)
}

// ScrubRequest asks for a scrub.
type ScrubRequest struct {
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // read no faster; 0: as fast as it goes
}

// ScrubState is how far a scrub is. One that was stopped half way and went on counts as one.
type ScrubState struct {
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"` // when it came to its end
	Running  bool      `json:"running"`
	Blobs    int64     `json:"blobs"` // read
	Bytes    int64     `json:"bytes"` // read
	Of       ScrubSize `json:"of"`    // what was held when it began
	Damaged  int64     `json:"damaged"`
	Repaired int64     `json:"repaired"` // of these
}

// ScrubSize is how much a scrub has to read.
type ScrubSize struct {
	Blobs int64 `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// ScrubReport is what a scrub found.
type ScrubReport struct {
	Blobs    int64    `json:"blobs"`    // read
	Bytes    int64    `json:"bytes"`    // of these
	Resumed  bool     `json:"resumed"`  // it went on where another had stopped
	Complete bool     `json:"complete"` // it came to the end
	Damaged  int64    `json:"damaged"`  // blobs, with those that were out of service before
	Repaired int64    `json:"repaired"` // of these
	Damage   []Damage `json:"damage"`   // the first thousand
}

// Damage is one damaged blob.
type Damage struct {
	Digest      digest.Digest `json:"digest"`
	Size        int64         `json:"size"`
	Cause       string        `json:"cause"`
	Known       bool          `json:"known"`  // it was out of service before
	Images      []string      `json:"images"` // that cannot be pulled whole without it, a hundred at most
	Repaired    bool          `json:"repaired"`
	RepairError string        `json:"repairError,omitempty"`
}

func (h *Handler) postScrub(w http.ResponseWriter, r *http.Request) {
	var q ScrubRequest
	if !h.asked(w, r, &q) {
		return
	}
	h.serveJob(w, r, func(ctx context.Context, progress func(any)) (any, error) {
		return h.jobs.Scrub(ctx, q.BytesPerSecond, func(s ScrubState) { progress(s) })
	})
}

// Scrub reads every blob, takes out of service what is damaged and fetches it again where it can. progress may be nil.
func (c *Client) Scrub(ctx context.Context, q ScrubRequest, progress func(ScrubState)) (ScrubReport, error) {
	return ask[ScrubState, ScrubReport](ctx, c, "/api/v1/scrub", q, progress)
}
