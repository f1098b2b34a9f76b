package client

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
	"syscall"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// GC collects, and returns the result. progress may be nil, as with each job.
func (c *Client) GC(ctx context.Context, q api.GCRequest, progress func(api.GCProgress)) (api.GCResult, error) {
	q.Detach = false
	return run(ctx, c, api.GC, q, progress)
}

// BeginGC begins a collection of the daemon's own.
func (c *Client) BeginGC(ctx context.Context, q api.GCRequest) error {
	q.Detach = true
	return detach(ctx, c, api.GC.Path, q)
}

// detach begins a job of the daemon's own.
func detach[Q any](ctx context.Context, c *Client, path string, q Q) error {
	_, err := call(ctx, c, api.Call[Q, api.None]{Method: http.MethodPost, Path: path, Max: api.MaxJSON}, q)
	return err
}

// Verify verifies the store.
func (c *Client) Verify(ctx context.Context, q api.VerifyRequest,
	progress func(api.VerifyProgress)) (findings.Report, error) {
	q.Detach = false
	return run(ctx, c, api.Verify, q, progress)
}

// BeginVerify begins a verification of the daemon's own.
func (c *Client) BeginVerify(ctx context.Context, q api.VerifyRequest) error {
	q.Detach = true
	return detach(ctx, c, api.Verify.Path, q)
}

// Scrub reads every blob, puts into quarantine what is damaged, and fetches it again where it can.
func (c *Client) Scrub(ctx context.Context, q api.ScrubRequest,
	progress func(api.ScrubState)) (findings.ScrubReport, error) {
	q.Detach = false
	return run(ctx, c, api.Scrub, q, progress)
}

// BeginScrub begins a scrub of the daemon's own.
func (c *Client) BeginScrub(ctx context.Context, q api.ScrubRequest) error {
	q.Detach = true
	return detach(ctx, c, api.Scrub.Path, q)
}

// Mirror mirrors an image set that the configuration names.
func (c *Client) Mirror(ctx context.Context, q api.MirrorRequest,
	progress func(api.MirrorProgress)) (api.MirrorResult, error) {
	q.Detach = false
	return run(ctx, c, api.Mirror, q, progress)
}

// Pin fetches what is lacking of images and protects them from eviction.
func (c *Client) Pin(ctx context.Context, q api.PinRequest, progress func(api.PinProgress)) (api.PinResult, error) {
	return run(ctx, c, api.Pin, q, progress)
}

// Ready judges whether a cluster can be installed from what the registry has, or upgraded with it.
func (c *Client) Ready(ctx context.Context, q api.ReadyRequest, progress func(api.ReadyProgress)) (api.Verdict, error) {
	q.Detach = false
	return run(ctx, c, api.Ready, q, progress)
}

// BeginReady begins a verdict of the daemon's own.
func (c *Client) BeginReady(ctx context.Context, q api.ReadyRequest) error {
	q.Detach = true
	return detach(ctx, c, api.Ready.Path, q)
}

// ReadyState returns the last verdict of the daemon's own, and the one that is being made.
func (c *Client) ReadyState(ctx context.Context) (api.ReadyState, error) {
	return call(ctx, c, api.GetReady, api.None{})
}

// StopReady ends the verdict of the daemon's own that is being made.
func (c *Client) StopReady(ctx context.Context) error {
	_, err := call(ctx, c, api.StopReady, api.None{})
	return err
}

// ReadyImageSet returns an image set that brings what the last verdict of the daemon's own lacks.
func (c *Client) ReadyImageSet(ctx context.Context) (api.ImageSetFile, error) {
	return call(ctx, c, api.ReadyImageSet, api.None{})
}

// Prune lists what no attached cluster runs, can reach or may roll back to, or deletes what was listed.
func (c *Client) Prune(ctx context.Context, q api.PruneRequest, progress func(api.PruneProgress)) (api.PruneResult, error) {
	return run(ctx, c, api.Prune, q, progress)
}

// Catalogs makes the views of catalogs again.
func (c *Client) Catalogs(ctx context.Context, progress func(api.CatalogsProgress)) (api.CatalogsResult, error) {
	return run(ctx, c, api.Catalogs, api.CatalogsRequest{}, progress)
}

// Backup has a snapshot made and calls copyAll with the name of its file, which is beside the
// database. Until copyAll returns no collection removes the files of blobs that the snapshot names;
// its context ends when the daemon can no longer promise that. It works on the socket only.
func (c *Client) Backup(ctx context.Context, copyAll func(ctx context.Context, snapshot string) error) error {
	copying, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var copied chan error
	_, err := run(ctx, c, api.Backup, api.None{}, func(made api.Snapshot) {
		if copied != nil {
			return // the same line again
		}
		copied = make(chan error, 1)
		go func() {
			err := copyAll(copying, made.Snapshot)
			if copying.Err() == nil {
				ended := api.EndBackup
				if err != nil {
					ended.Path += "?" + api.CopyFailed.Name + "=true"
				}
				_, end := call(ctx, c, ended, api.None{}, made.Snapshot)
				err = errors.Join(err, end)
			}
			copied <- err
		}()
	})
	if copied == nil {
		return err
	}
	if err != nil {
		cancel(err)
		<-copied
		return err
	}
	return <-copied
}

// run runs a job, calls progress with each line but the last, and returns the result.
func run[Q, P, R any](ctx context.Context, c *Client, job api.Job[Q, P, R], q Q,
	progress func(P)) (result R, err error) {
	answer, err := c.begin(ctx, job.Path, q)
	if err != nil {
		return result, err
	}
	defer answer.Close()
	unreadable := func(err error) error { return fmt.Errorf("read the daemon's answer to %s: %w", job.Path, err) }
	lines := bufio.NewScanner(answer)
	lines.Buffer(nil, api.MaxLine)
	for lines.Scan() {
		var line api.Line
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			if lines.Err() != nil { // half a line
				break
			}
			return result, unreadable(err)
		}
		switch {
		case line.Refusal != nil:
			return result, &Refused{Status: cmp.Or(line.Status, http.StatusInternalServerError), Refusal: *line.Refusal}
		case line.Result != nil:
			return result, json.Unmarshal(line.Result, &result)
		}
		var p P
		if err := json.Unmarshal(line.Progress, &p); err != nil {
			return result, unreadable(err)
		}
		if progress != nil {
			progress(p)
		}
	}
	if err := ctx.Err(); err != nil {
		return result, err
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		return result, unreadable(err)
	}
	return result, hint.New(fmt.Errorf("the daemon stopped before %s had ended",
		strings.TrimPrefix(job.Path, "/api/v1/")),
		"what was done until then stays done: start the daemon, and run the command again")
}

// begin makes the request of a job, and returns the lines of the answer once it has begun.
func (c *Client) begin(ctx context.Context, path string, q any) (io.ReadCloser, error) {
	body, err := encode(q)
	if err != nil {
		return nil, err
	}
	r, err := c.request(ctx, http.MethodPost, path, body)
	if err != nil {
		return nil, err
	}
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
