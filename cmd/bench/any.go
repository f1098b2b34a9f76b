package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

const (
	anyManifests    = 10_000
	anyRepositories = 100
	anySlice        = 2 * time.Second
	anyPushEvery    = 100 * time.Millisecond
)

// A library is the manifests that are asked for at random. They share their blobs.
type library struct{ paths []string }

// measureAny asks each server for any of its manifests while a pusher adds ten images a second: the cache of one
// manifest, which measureManifests has the servers answer from, does not help.
func measureAny(ctx context.Context, b *bench) (_ []row, err error) {
	c, err := b.startContest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopAll(c.servers)) }()
	l := &library{paths: make([]string, anyManifests)}
	for _, s := range c.servers {
		if s.isProbe() {
			continue
		}
		began := time.Now()
		if err := l.fill(ctx, b, s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(b.progress, "any: filled %s in %s\n", s.name, time.Since(began).Round(time.Second))
	}
	speed, cost := series{}, series{}
	for round := range b.rounds + 1 {
		err := c.each(round, func(s *server) error {
			perSecond, cpu, err := l.slice(ctx, b, s, round)
			if err == nil && round > 0 {
				speed.add(s.name, perSecond)
				cost.add(s.name, cpu)
			}
			return errors.Join(err, b.clearProbe())
		})
		if err != nil {
			return nil, err
		}
	}
	return getRows(fmt.Sprintf("any manifest of %d during 10 pushes a second", anyManifests), speed, cost), nil
}

// fill pushes all manifests to one server.
func (l *library) fill(ctx context.Context, b *bench, s *server) error {
	g, ctx := errgroup.WithContext(ctx)
	for pusher := range connections {
		g.Go(func() error {
			client := newClient(b.site, s, h1)
			defer client.close()
			for repo := pusher; repo < anyRepositories; repo += connections {
				if err := l.fillRepository(ctx, client, repo); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (l *library) fillRepository(ctx context.Context, client *client, repo int) error {
	name := fmt.Sprintf("bench/any/%d", repo)
	base, err := newImage("any", 4, 1000)
	if err != nil {
		return err
	}
	if err := client.pushImage(ctx, name, "base", base); err != nil {
		return err
	}
	for n := repo; n < anyManifests; n += anyRepositories {
		body := bytes.Replace(base.manifest, []byte(`{`), fmt.Appendf(nil, `{"annotations":{"bench":"%d"},`, n), 1)
		d := digest.FromBytes(body)
		l.paths[n] = "/v2/" + name + "/manifests/" + d.String()
		_, err := client.do(ctx, http.MethodPut, l.paths[n], bytes.NewReader(body), int64(len(body)), ocispec.MediaTypeImageManifest, http.StatusCreated)
		if err != nil {
			return err
		}
	}
	return nil
}

// slice asks one server for manifests and pushes to it meanwhile.
func (l *library) slice(ctx context.Context, b *bench, s *server, round int) (perSecond, cpu float64, err error) {
	pushing, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return l.push(pushing, b, s, round) })
	perSecond, cpu, err = b.hammer(ctx, s, anySlice, func() string {
		if s.isProbe() {
			return probeEmpty
		}
		return l.paths[rand.IntN(len(l.paths))]
	})
	cancel()
	return perSecond, cpu, errors.Join(err, g.Wait())
}

// push pushes small images until ctx ends, as many a second to every server.
func (l *library) push(ctx context.Context, b *bench, s *server, round int) error {
	client := newClient(b.site, s, h1)
	defer client.close()
	tick := time.NewTicker(anyPushEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		i, err := newImage(fmt.Sprintf("any/%s/%d/%d", s.name, round, n), 1, crowdLayerSize)
		if err != nil {
			return err
		}
		repo := fmt.Sprintf("bench/any/%d", n%anyRepositories)
		if err := client.storeImage(ctx, repo, fmt.Sprintf("%d-%d", round, n), i); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
