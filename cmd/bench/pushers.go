package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	admin "github.com/mirror-appliance/appliance/registry/admin/client"
)

const (
	pushers    = 64
	pullers    = 4
	pushSlice  = 6 * time.Second // with or without collection
	pushPairs  = 2               // of slices
	gcGrace    = 5 * time.Second // longer than a push takes between a blob and its manifest
	keepImages = 8               // each pusher deletes its oldest beyond that

	crowdLayers    = 2
	crowdLayerSize = 8 << 10
)

// A crowd is pushers and pullers, and what they saw.
type crowd struct {
	b       *bench
	server  *server
	control *admin.Client
	pulled  image

	pushed, deleted, refused, serverErrors atomic.Int64
	collections, collected                 atomic.Int64

	mu    sync.Mutex
	pulls map[string][]time.Duration // by slice; guarded by mu
	held  []map[string]digest.Digest // of each pusher, what was acknowledged and not deleted since, by tag
}

func measurePushers(ctx context.Context, b *bench) (_ []row, err error) {
	s, control, err := b.startSubject(ctx, "crowd")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop(), b.site.remove("crowd")) }()
	defer control.Close()
	c := &crowd{b: b, server: s, control: control, pulls: map[string][]time.Duration{}, held: make([]map[string]digest.Digest, pushers)}
	for i := range c.held {
		c.held[i] = map[string]digest.Digest{}
	}
	if err := c.seed(ctx); err != nil {
		return nil, err
	}
	p99 := series{}
	for pair := range pushPairs {
		for _, collecting := range []bool{pair%2 == 1, pair%2 == 0} { // the other first each time
			if err := c.slice(ctx, fmt.Sprint(pair), collecting, p99); err != nil {
				return nil, err
			}
		}
	}
	lost, err := c.lost(ctx)
	if err != nil {
		return nil, err
	}
	return c.rows(p99, lost), nil
}

func (c *crowd) rows(p99 series, lost int) []row {
	what := fmt.Sprintf("%d pushers, deletes and gc: ", pushers)
	failed := row{What: what + "5xx", Unit: "answers", Value: float64(c.serverErrors.Load()),
		Note: fmt.Sprintf("%d images pushed, %d deleted, %d refused because gc came between blob and manifest; %d collections removed %d blobs",
			c.pushed.Load(), c.deleted.Load(), c.refused.Load(), c.collections.Load(), c.collected.Load())}
	gone := row{What: what + "acknowledged and lost", Unit: "images", Value: float64(lost)}
	slow := p99.row(what+"p99 of pulls", "ms").atMost(1.5)
	slow.Note = "the probe is the same without gc"
	return []row{failed.none(), gone.none(), slow}
}

// seed pushes what the pullers pull.
func (c *crowd) seed(ctx context.Context) (err error) {
	if c.pulled, err = newImage("pull", 1, 64<<10); err != nil {
		return err
	}
	client := newClient(c.b.site, c.server, h1)
	defer client.close()
	return client.pushImage(ctx, "bench/pull", "latest", c.pulled)
}

// slice lets everybody work for a while and notes the p99 of the pulls.
func (c *crowd) slice(ctx context.Context, pair string, collecting bool, p99 series) error {
	name := probeName
	if collecting {
		name = subjectName
	}
	key := pair + name
	end := time.Now().Add(pushSlice)
	g, ctx := errgroup.WithContext(ctx)
	for i := range pushers {
		g.Go(func() error { return c.pushUntil(ctx, end, i, key) })
	}
	for range pullers {
		g.Go(func() error { return c.pullUntil(ctx, end, key) })
	}
	if collecting {
		g.Go(func() error { return c.collectUntil(ctx, end) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p99.add(name, percentile(c.pulls[key], 0.99))
	return nil
}

// pushUntil pushes small images one after the other, and deletes the oldest.
func (c *crowd) pushUntil(ctx context.Context, end time.Time, pusher int, key string) error {
	client := newClient(c.b.site, c.server, h1)
	defer client.close()
	repo, held := fmt.Sprintf("bench/crowd/%d", pusher), c.held[pusher]
	var order []string
	for n := 0; time.Now().Before(end); n++ {
		tag := fmt.Sprintf("%s-%d", key, n)
		i, err := newImage(fmt.Sprintf("%d/%s", pusher, tag), crowdLayers, crowdLayerSize)
		if err != nil {
			return err
		}
		ok, err := c.tell(client.pushImage(ctx, repo, tag, i))
		if err != nil {
			return err
		}
		if ok {
			c.pushed.Add(1)
			held[tag] = i.digest
			order = append(order, tag)
		}
		if len(order) <= keepImages {
			continue
		}
		if err := c.delete(ctx, client, repo, held[order[0]]); err != nil {
			return err
		}
		delete(held, order[0]) // also if it was answered with an error: nobody knows then
		order = order[1:]
	}
	return nil
}

func (c *crowd) delete(ctx context.Context, client *client, repo string, d digest.Digest) error {
	_, err := client.do(ctx, http.MethodDelete, "/v2/"+repo+"/manifests/"+d.String(), nil, 0, "", http.StatusAccepted)
	ok, err := c.tell(err)
	if ok {
		c.deleted.Add(1)
	}
	return err
}

// tell says whether a request went well. What counts as a figure is counted, and is no error.
func (c *crowd) tell(err error) (ok bool, _ error) {
	var refused *statusError
	switch {
	case err == nil:
		return true, nil
	case !errors.As(err, &refused):
		return false, err
	case refused.answer.status >= http.StatusInternalServerError:
		c.serverErrors.Add(1)
		return false, nil
	case strings.Contains(refused.answer.begin, "BLOB_UNKNOWN"):
		c.refused.Add(1) // collection was faster than the push: the grace period is that short
		return false, nil
	}
	return false, err
}

// pullUntil pulls the image over and over, timing every request.
func (c *crowd) pullUntil(ctx context.Context, end time.Time, key string) error {
	client := newClient(c.b.site, c.server, h1)
	defer client.close()
	paths := []string{"/v2/bench/pull/manifests/" + c.pulled.digest.String()}
	for _, blob := range c.pulled.blobs {
		paths = append(paths, "/v2/bench/pull/blobs/"+digest.FromBytes(blob).String())
	}
	var took []time.Duration
	for n := 0; time.Now().Before(end); n++ {
		began := time.Now()
		_, err := client.get(ctx, paths[n%len(paths)])
		if _, err := c.tell(err); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulls[key] = append(c.pulls[key], took...)
	return nil
}

// collectUntil collects without a pause.
func (c *crowd) collectUntil(ctx context.Context, end time.Time) error {
	grace := api.Duration(gcGrace)
	for time.Now().Before(end) {
		done, err := c.control.GC(ctx, api.GCRequest{GracePeriod: &grace}, nil)
		if err != nil {
			return fmt.Errorf("collect: %w", err)
		}
		c.collections.Add(1)
		c.collected.Add(int64(done.Blobs))
	}
	return nil
}

// lost counts the images that were acknowledged, not deleted, and cannot be pulled whole.
func (c *crowd) lost(ctx context.Context) (int, error) {
	client := newClient(c.b.site, c.server, h1)
	defer client.close()
	lost := 0
	for pusher, held := range c.held {
		for tag, d := range held {
			whole, err := pullable(ctx, client, fmt.Sprintf("bench/crowd/%d", pusher), tag, d)
			if err != nil {
				return 0, err
			}
			if !whole {
				lost++
			}
		}
	}
	return lost, nil
}

// pullable says whether a tag names what it was pushed as, and all blobs of that are there.
func pullable(ctx context.Context, client *client, repo, tag string, d digest.Digest) (bool, error) {
	a, err := client.get(ctx, "/v2/"+repo+"/manifests/"+tag)
	var refused *statusError
	if errors.As(err, &refused) || err == nil && a.header.Get("Docker-Content-Digest") != d.String() {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	i, err := newImage(strings.TrimPrefix(repo, "bench/crowd/")+"/"+tag, crowdLayers, crowdLayerSize)
	if err != nil {
		return false, err
	}
	for _, blob := range i.blobs {
		_, err := client.get(ctx, "/v2/"+repo+"/blobs/"+digest.FromBytes(blob).String())
		if errors.As(err, &refused) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}
