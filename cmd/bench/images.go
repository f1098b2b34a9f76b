package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

const imageSlice = time.Second // of pushes to one server before the next has its turn

// measureImages pushes small images: a mirror of catalogs and signatures is many commits and few bytes.
func measureImages(ctx context.Context, b *bench) (_ []row, err error) {
	c, err := b.startContest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopAll(c.servers)) }()
	var rows []row
	for pushers, target := range map[int]float64{1: 0.6, connections: 0.8} {
		speed := series{}
		for round := range b.rounds + 1 {
			err := c.each(round, func(s *server) error {
				perSecond, err := b.pushImages(ctx, s, pushers, fmt.Sprintf("%d-%d", pushers, round))
				if err == nil && round > 0 { // the first is for bcrypt
					speed.add(s.name, perSecond)
				}
				return errors.Join(err, b.clearProbe())
			})
			if err != nil {
				return nil, err
			}
		}
		rows = append(rows, speed.row(fmt.Sprintf("small images pushed, durable, h1 ×%d", pushers), "images/s").atLeast(target))
	}
	return rows, nil
}

// pushImages says how many images a second so many pushers get to a server; key makes them new ones.
func (b *bench) pushImages(ctx context.Context, s *server, pushers int, key string) (perSecond float64, err error) {
	began := time.Now()
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for pusher := range pushers {
		g.Go(func() error {
			client := newClient(b.site, s, h1)
			defer client.close()
			for n := 0; time.Since(began) < imageSlice; n++ {
				i, err := newImage(fmt.Sprintf("%s/%s/%d/%d", s.name, key, pusher, n), crowdLayers, crowdLayerSize)
				if err != nil {
					return err
				}
				if err := client.storeImage(ctx, fmt.Sprintf("bench/images/%d", pusher), fmt.Sprintf("%s-%d", key, n), i); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	err = g.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), err
}

// storeImage pushes an image to a registry, or sends the probe the same bytes.
func (c *client) storeImage(ctx context.Context, repo, tag string, i image) error {
	if !c.server.isProbe() {
		return c.pushImage(ctx, repo, tag, i)
	}
	for _, part := range append(i.blobs, i.manifest) {
		if err := c.store(ctx, digest.FromBytes(part), bytes.NewReader(part), int64(len(part))); err != nil {
			return err
		}
	}
	return nil
}
