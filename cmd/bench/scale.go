package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	admin "github.com/mirror-appliance/appliance/registry/admin/client"
)

const (
	scaleConnections = 4 // few, so that what is timed is the answer and not the queue before it
	scaleSlice       = time.Second
	tagPage          = 1000
	tagPages         = 50
)

// measureScale fills one store with very much and leaves another empty but for one image; the empty one is the probe.
func measureScale(ctx context.Context, b *bench) (_ []row, err error) {
	const full, empty = "scale-full", "scale-empty"
	if err := b.emptyStore(ctx, empty); err != nil {
		return nil, err
	}
	began := time.Now()
	content, err := generate(ctx, subjectConfig(b.site, b.site.path(full)), b.scale)
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	fmt.Fprintf(b.progress, "scale: generated in %s\n", time.Since(began).Round(time.Second))
	defer func() { err = errors.Join(err, b.site.remove(full), b.site.remove(empty)) }()
	ready, err := b.readyAfter(ctx, full, empty)
	if err != nil {
		return nil, err
	}
	rows, err := b.scaleRows(ctx, full, empty, content)
	if err != nil {
		return nil, err
	}
	size := fmt.Sprintf("%d manifests, %d references: ", b.scale, b.scale*refsEach)
	rows = append([]row{ready}, rows...)
	for i := range rows {
		rows[i].What = size + rows[i].What
	}
	return rows, nil
}

// emptyStore makes a store with one user and one image.
func (b *bench) emptyStore(ctx context.Context, name string) error {
	s, control, err := b.startSubject(ctx, name)
	if err != nil {
		return err
	}
	defer control.Close()
	c := newClient(b.site, s, h1)
	defer c.close()
	i, err := generatedImage(0)
	if err == nil {
		err = c.pushImage(ctx, generatedRepo(0), "latest", i)
	}
	return errors.Join(err, s.stop())
}

// readyAfter times starts until the first handshake, which the daemon answers once all is open. What the page cache has of the databases is
// dropped before each, as after a reboot.
func (b *bench) readyAfter(ctx context.Context, full, empty string) (row, error) {
	took := series{}
	for range 3 {
		for name, as := range map[string]string{full: subjectName, empty: probeName} {
			if err := dropCache(subjectConfig(b.site, b.site.path(name)).Database); err != nil {
				return row{}, err
			}
			s, control, err := b.startSubject(ctx, name)
			if err != nil {
				return row{}, err
			}
			control.Close()
			took.add(as, milliseconds(s.ready.Sub(s.began)))
			if err := s.stop(); err != nil {
				return row{}, err
			}
		}
	}
	r := took.row("ready after", "ms").under(1000)
	r.Note = "from exec to the first TLS handshake, with nothing of the database in the page cache"
	return r, nil
}

func dropCache(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// warmCache reads a file, so that what is timed afterwards is not the disk.
func warmCache(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}

func (b *bench) scaleRows(ctx context.Context, full, empty string, content *generated) (_ []row, err error) {
	subject, control, err := b.startSubject(ctx, full)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, subject.stop()) }()
	defer control.Close()
	if err := warmCache(subjectConfig(b.site, b.site.path(full)).Database); err != nil {
		return nil, err
	}
	probe, probeControl, err := b.startSubject(ctx, empty)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, probe.stop()) }()
	defer probeControl.Close()
	gets, err := b.getLatency(ctx, subject, probe, content)
	if err != nil {
		return nil, err
	}
	tags, err := b.tagLatency(ctx, subject)
	if err != nil {
		return nil, err
	}
	plan, err := planTime(ctx, control)
	if err != nil {
		return nil, err
	}
	pages, err := b.consoleRows(ctx, subject, probe, control, probeControl)
	return append([]row{gets, plan, tags}, pages...), err
}

// getLatency asks both stores for manifests in turn, the full one for any of its own.
func (b *bench) getLatency(ctx context.Context, subject, probe *server, content *generated) (row, error) {
	p99 := series{}
	one, err := generatedImage(0)
	if err != nil {
		return row{}, err
	}
	only := func() string { return "/v2/" + generatedRepo(0) + "/manifests/" + one.digest.String() }
	for round := range b.rounds + 1 {
		for _, turn := range []struct {
			as   string
			s    *server
			path func() string
		}{{subjectName, subject, content.anyManifest}, {probeName, probe, only}} {
			took, err := b.latencies(ctx, turn.s, turn.path)
			if err != nil {
				return row{}, err
			}
			if round > 0 {
				p99.add(turn.as, percentile(took, 0.99))
			}
		}
	}
	r := p99.row("manifest GET, p99", "ms").atMost(2)
	r.Note = "any manifest against always the same of a store that has one; the database in the page cache"
	return r, nil
}

func (b *bench) latencies(ctx context.Context, s *server, path func() string) ([]time.Duration, error) {
	each := make([][]time.Duration, scaleConnections)
	began := time.Now()
	var g errgroup.Group
	for i := range each {
		w, err := dialWire(ctx, b.site, s)
		if err != nil {
			return nil, err
		}
		defer w.conn.Close()
		g.Go(func() error {
			for time.Since(began) < scaleSlice && ctx.Err() == nil {
				request := w.request(path())
				sent := time.Now()
				if _, err := w.do(request); err != nil {
					return err
				}
				each[i] = append(each[i], time.Since(sent))
			}
			return ctx.Err()
		})
	}
	err := g.Wait()
	var all []time.Duration
	for _, e := range each {
		all = append(all, e...)
	}
	return all, err
}

// tagLatency pages through the repository with the most tags.
func (b *bench) tagLatency(ctx context.Context, s *server) (row, error) {
	c := newClient(b.site, s, h1)
	defer c.close()
	var took []time.Duration
	for range tagPages {
		path := fmt.Sprintf("/v2/%s/tags/list?n=%d&last=v%07d", generatedRepo(0), tagPage, rand.IntN(b.scale/bigRepoShare))
		began := time.Now()
		if _, err := c.get(ctx, path); err != nil {
			return row{}, err
		}
		took = append(took, time.Since(began))
	}
	return row{What: fmt.Sprintf("page of %d tags, p99", tagPage), Unit: "ms", Value: percentile(took, 0.99),
		Note: fmt.Sprintf("from anywhere in a repository of %d tags", b.scale/bigRepoShare)}.under(20), nil
}

// planTime is a dry run of collection, in which all is old enough to go.
func planTime(ctx context.Context, control *admin.Client) (row, error) {
	var none api.Duration
	began := time.Now()
	plan, err := control.GC(ctx, api.GCRequest{DryRun: true, GracePeriod: &none}, nil)
	if err != nil {
		return row{}, err
	}
	return row{What: "gc plan", Unit: "s", Value: time.Since(began).Seconds(),
		Note: fmt.Sprintf("finds %d blobs, and has their files looked at", plan.Blobs)}.under(10), nil
}
