package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	connections   = 16
	manifestSlice = 700 * time.Millisecond // of load on one server before the next has its turn
)

// contest is the subject, the probe, and the others that are on this machine.
type contest struct {
	servers []*server // the subject first
}

func (b *bench) startContest(ctx context.Context) (_ *contest, err error) {
	c := &contest{}
	defer func() {
		if err != nil {
			err = errors.Join(err, stopAll(c.servers))
		}
	}()
	subject, control, err := b.startSubject(ctx, subjectName)
	if err != nil {
		return nil, err
	}
	control.Close()
	c.servers = append(c.servers, subject)
	probe, err := b.startProbe(ctx, probeName)
	if err != nil {
		return nil, err
	}
	c.servers = append(c.servers, probe)
	peers, err := b.startPeers(ctx)
	c.servers = append(c.servers, peers...)
	return c, err
}

func (b *bench) startProbe(ctx context.Context, name string, args ...string) (*server, error) {
	if err := os.MkdirAll(b.site.path("probe"), 0o700); err != nil {
		return nil, err
	}
	return startSelf(ctx, b.site, name, anonymous, append([]string{"probe", b.site.dir}, args...)...)
}

// each gives every server its turn, another one first in every round.
func (c *contest) each(round int, turn func(*server) error) error {
	for i := range c.servers {
		s := c.servers[(i+round)%len(c.servers)]
		if err := turn(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func measureManifests(ctx context.Context, b *bench) (_ []row, err error) {
	c, err := b.startContest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopAll(c.servers)) }()
	path, err := b.seedManifest(ctx, c)
	if err != nil {
		return nil, err
	}
	speed, cost := series{}, series{}
	for round := range b.rounds + 1 {
		err := c.each(round, func(s *server) error {
			perSecond, cpu, err := b.hammer(ctx, s, manifestSlice, func() string { return path(s) })
			if err == nil && round > 0 { // the first is for caches and for bcrypt
				speed.add(s.name, perSecond)
				cost.add(s.name, cpu)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return getRows("manifest GET by digest", speed, cost), nil
}

// getRows are the rows of a contest of manifest GETs.
func getRows(what string, speed, cost series) []row {
	return []row{
		cost.row(what+", CPU", "µs/request").atMost(3),
		speed.row(what+", h1 ×16", "requests/s").atLeast(0.35),
		versus(what, "requests/s", speed, distributionProgram, 3),
		versus(what, "requests/s", speed, zotProgram, 1.8),
	}
}

// versus compares with another registry. Its figure stands where the probe's is elsewhere.
func versus(what, unit string, s series, peer string, target float64) row {
	r := row{What: what + ", over " + peer, Unit: unit, Value: median(s[subjectName])}
	if len(s[peer]) == 0 {
		r.Target, r.Verdict = fmt.Sprintf("ratio ≥ %g", target), absent
		r.Note = peer + " is not on PATH"
		return r
	}
	r.Probe = median(s[peer])
	r.compare(s.ratios(subjectName, peer))
	return r.atLeast(target)
}

// seedManifest pushes the image to the registries, and says what to ask whom for.
func (b *bench) seedManifest(ctx context.Context, c *contest) (func(*server) string, error) {
	i, err := newImage("manifest", 4, 1000)
	if err != nil {
		return nil, err
	}
	for _, s := range c.servers {
		if s.name == probeName {
			continue
		}
		client := newClient(b.site, s, h1)
		defer client.close()
		if err := client.pushImage(ctx, "bench/manifest", "latest", i); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return func(s *server) string {
		if s.name == probeName {
			return probeEmpty
		}
		return "/v2/bench/manifest/manifests/" + i.digest.String()
	}, nil
}

// hammer asks for one path after the other and returns requests a second and microseconds of the server's CPU for each.
func (b *bench) hammer(ctx context.Context, s *server, slice time.Duration, path func() string, more ...string) (perSecond, cpu float64, err error) {
	wires := make([]*wire, connections)
	for i := range wires {
		if wires[i], err = dialWire(ctx, b.site, s); err != nil {
			return 0, 0, err
		}
		defer wires[i].conn.Close()
		if _, err := wires[i].do(wires[i].request(path(), more...)); err != nil {
			return 0, 0, err
		}
	}
	before, err := s.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	var done atomic.Int64
	var g errgroup.Group
	for _, w := range wires {
		g.Go(func() error {
			n := int64(0)
			for ; time.Since(began) < slice && ctx.Err() == nil; n++ {
				if _, err := w.do(w.request(path(), more...)); err != nil {
					return err
				}
			}
			done.Add(n)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	after, err := s.cpu()
	n := float64(done.Load())
	return n / took.Seconds(), float64((after - before).Microseconds()) / n, err
}
