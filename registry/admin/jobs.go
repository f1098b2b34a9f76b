package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// A job takes long enough that its caller wants to see it get on. Its answer is a line of JSON each time something
// is to be told, {"progress": …}, and a last one, {"result": …} or {"error": …, "hint": …}: whether it succeeded is not
// known when the status is sent.
type job func(ctx context.Context, progress func(any)) (result any, err error)

type jobLine struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	errorAnswer
}

// serveJob runs a job for as long as its caller listens.
func (h *Handler) serveJob(w http.ResponseWriter, r *http.Request, run job) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Server", Product)
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	send := func(key string, v any) {
		// What goes wrong in sending ends the request's context, and with it the job.
		_ = lines.Encode(map[string]any{key: v})
		_ = flush.Flush()
	}
	result, err := run(r.Context(), func(v any) { send("progress", v) })
	if err != nil {
		h.log.Error("a job failed", "path", r.URL.Path, "error", err)
		_ = lines.Encode(errorAnswer{Error: err.Error(), Hint: hintOf(err)})
		return
	}
	send("result", result)
}

// runJob is the client's side: progress is called with each line but the last, which is read into result.
func (c *Client) runJob(ctx context.Context, path string, in any, progress func(json.RawMessage) error, result any) error {
	body, err := encode(in)
	if err != nil {
		return err
	}
	r, err := c.request(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.patient.Do(r)
	if err != nil {
		return unreachable(c.base, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxJobLine)
	for lines.Scan() {
		var line jobLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("read the daemon's answer to %s: %w", path, err)
		}
		switch {
		case line.Error != "":
			return &Error{Status: http.StatusInternalServerError, Product: Product, Message: line.Error, hint: line.Hint}
		case line.Result != nil:
			return json.Unmarshal(line.Result, result)
		}
		if err := progress(line.Progress); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the daemon's answer to %s: %w", path, err)
	}
	return fmt.Errorf("the daemon stopped before %s had ended", path)
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

// maxJobLine bounds a line: a report with all the problems that it may list.
const maxJobLine = 4 << 20

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

func (h *Handler) verify(w http.ResponseWriter, r *http.Request) {
	var q VerifyRequest
	if err := decode(r, maxJSON, &q); err != nil {
		h.refuse(w, r, err)
		return
	}
	if q.BytesPerSecond < 0 {
		h.refuse(w, r, &badRequest{"bytesPerSecond is negative", "leave it out to read as fast as it goes"})
		return
	}
	h.serveJob(w, r, func(ctx context.Context, progress func(any)) (any, error) {
		return h.store.Verify(ctx, store.VerifyOptions{
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
	if err := decode(r, maxJSON, &q); err != nil {
		h.refuse(w, r, err)
		return
	}
	if q.BytesPerSecond < 0 {
		h.refuse(w, r, &badRequest{"bytesPerSecond is negative", "leave it out to read as fast as it goes"})
		return
	}
	h.serveJob(w, r, func(ctx context.Context, progress func(any)) (any, error) {
		last := time.Now()
		return h.scrub(ctx, q.BytesPerSecond, func(done ScrubReport) {
			if time.Since(last) < progressEvery {
				return // it is called for every blob
			}
			last = time.Now()
			done.Damage = nil // it comes with the result
			progress(done)
		})
	})
}

// progressEvery is how often a job that could tell more often does.
const progressEvery = time.Second

// Scrub reads every blob, takes out of service what is damaged and fetches it again where it can. progress may be nil.
func (c *Client) Scrub(ctx context.Context, q ScrubRequest, progress func(ScrubReport)) (ScrubReport, error) {
	return ask[ScrubReport, ScrubReport](ctx, c, "/api/v1/scrub", q, progress)
}
