package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	admin "github.com/mirror-appliance/appliance/registry/admin/client"
)

const (
	collectionRounds = 5
	collectedImages  = 2000 // half of which are deleted
	lightPullEvery   = 5 * time.Millisecond
	lightSlice       = 5 * time.Second
	freedWithin      = 5 // seconds
	zotGCEvery       = time.Second
)

// measureCollection deletes half of many small images and times how long it takes until their blobs are freed, under a
// load so light that a collection which holds up pulls shows.
func measureCollection(ctx context.Context, b *bench) (_ []row, err error) {
	const name = "collection"
	s, control, err := b.startSubject(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop(), b.site.remove(name)) }()
	defer control.Close()
	pulls := pullTimes{}
	freed := row{What: fmt.Sprintf("gc after deleting %d of %d small images: freed after", collectedImages/2, collectedImages), Unit: "s"}
	for range min(collectionRounds, b.rounds) {
		all, err := b.pushCollected(ctx, s) // what is left of the round before is pushed again, and changes nothing
		if err != nil {
			return nil, err
		}
		if err := b.deleteHalf(ctx, s, all); err != nil {
			return nil, err
		}
		if err := b.lightPulls(ctx, s, all, probeName, pulls, func(ctx context.Context) error { return sleep(ctx, lightSlice) }); err != nil {
			return nil, err
		}
		err = b.lightPulls(ctx, s, all, subjectName, pulls, func(ctx context.Context) error {
			began := time.Now()
			done, err := collectAll(ctx, control)
			freed.Value = max(freed.Value, time.Since(began).Seconds())
			if err == nil && done.Blobs < collectedImages/2*(1+crowdLayers) {
				err = fmt.Errorf("gc removed %d blobs of %d", done.Blobs, collectedImages/2*(1+crowdLayers))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	freed.Note = "the longest of the rounds; the grace period is over; distribution is stopped for it, and zot is given a minute"
	if freed.Peers, err = b.collectPeers(ctx); err != nil {
		return nil, err
	}
	slow := pulls.row("gc of small images: p99 of pulls").atMost(1.2)
	slow.Note = "of all pulls of all rounds, 200 a second, since 500 to 1,000 of one round have ten slow ones at most; the probe is the same without gc"
	return []row{freed.under(freedWithin), slow}, nil
}

// pullTimes is how long pulls took, by what was measured and by round.
type pullTimes map[string][][]time.Duration

// row compares the p99 over all rounds. The spread is that of the rounds.
func (p pullTimes) row(what string) row {
	rounds, all := series{}, map[string]float64{}
	for name, times := range p {
		for _, took := range times {
			rounds.add(name, percentile(took, 0.99))
		}
		all[name] = percentile(slices.Concat(times...), 0.99)
	}
	r := rounds.row(what, "ms")
	r.Value, r.Probe = all[subjectName], all[probeName]
	if r.Probe > 0 {
		r.Ratio = r.Value / r.Probe
	}
	return r
}

func collectAll(ctx context.Context, control *admin.Client) (api.GCResult, error) {
	var none api.Duration
	return control.GC(ctx, api.GCRequest{GracePeriod: &none}, nil)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pushCollected pushes the images, and returns their manifests' digests.
func (b *bench) pushCollected(ctx context.Context, s *server) ([]digest.Digest, error) {
	all := make([]digest.Digest, collectedImages)
	g, ctx := errgroup.WithContext(ctx)
	for pusher := range connections {
		g.Go(func() error {
			client := newClient(b.site, s, h1)
			defer client.close()
			for n := pusher; n < len(all); n += connections {
				i, err := newImage(fmt.Sprintf("collected/%d", n), crowdLayers, crowdLayerSize)
				if err != nil {
					return err
				}
				all[n] = i.digest
				if err := client.pushImage(ctx, collectedRepo(n), fmt.Sprintf("v%d", n), i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all, g.Wait()
}

func collectedRepo(n int) string { return fmt.Sprintf("bench/collected/%d", n/100) }

// deleteHalf deletes every second image.
func (b *bench) deleteHalf(ctx context.Context, s *server, all []digest.Digest) error {
	client := newClient(b.site, s, h1)
	defer client.close()
	for n := 1; n < len(all); n += 2 {
		path := "/v2/" + collectedRepo(n) + "/manifests/" + all[n].String()
		if _, err := client.do(ctx, http.MethodDelete, path, nil, 0, "", http.StatusAccepted); err != nil {
			return err
		}
	}
	return nil
}

// lightPulls pulls what is left, at a rate that the server hardly notices, while during runs.
func (b *bench) lightPulls(ctx context.Context, s *server, all []digest.Digest, as string, pulls pullTimes, during func(context.Context) error) error {
	pulling, cancel := context.WithCancel(ctx)
	var took []time.Duration
	var g errgroup.Group
	g.Go(func() error {
		client := newClient(b.site, s, h1)
		defer client.close()
		start := time.Now()
		for n := 0; ; n++ {
			began := start.Add(time.Duration(n) * lightPullEvery)
			if wait := time.Until(began); wait > 0 {
				if sleep(pulling, wait) != nil {
					return nil
				}
				began = time.Now()
			} // else it has waited for the pull before
			if pulling.Err() != nil {
				return nil
			}
			kept := 2 * n % len(all)
			if _, err := client.get(ctx, "/v2/"+collectedRepo(kept)+"/manifests/"+all[kept].String()); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
	})
	err := during(ctx)
	cancel()
	err = errors.Join(err, g.Wait())
	pulls[as] = append(pulls[as], took)
	return err
}

// collectPeers times the same of others: distribution's command, which wants the registry stopped, and zot's own schedule,
// which frees nothing before its delay of a second is over.
func (b *bench) collectPeers(ctx context.Context) (map[string]float64, error) {
	if !b.peers {
		return nil, nil
	}
	took := map[string]float64{}
	for name, freed := range map[string]func(context.Context, *server) error{distributionProgram: b.distributionCollects, zotProgram: b.zotCollects} {
		program, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if took[name], err = b.collectPeer(ctx, name, program, freed); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return took, nil
}

func (b *bench) collectPeer(ctx context.Context, name, program string, freed func(context.Context, *server) error) (seconds float64, err error) {
	if err := b.site.remove(name); err != nil { // what an earlier row has left
		return 0, err
	}
	configure := distributionConfig
	if name == zotProgram {
		configure = zotCollectsConfig
	}
	s, err := b.startPeer(ctx, name, program, configure)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.stop(), b.site.remove(name)) }()
	all, err := b.pushCollected(ctx, s)
	if err != nil {
		return 0, err
	}
	if err := b.deleteHalf(ctx, s, all); err != nil {
		return 0, err
	}
	began := time.Now()
	err = freed(ctx, s)
	return time.Since(began).Seconds(), err
}

func (b *bench) distributionCollects(ctx context.Context, s *server) error {
	out, err := exec.CommandContext(ctx, s.cmd.Path, "garbage-collect", b.site.path(distributionProgram+".json")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("garbage-collect: %w\n%s", err, out[max(0, len(out)-500):])
	}
	return nil
}

// zotCollects waits until half of the blobs are gone, or for a minute.
func (b *bench) zotCollects(ctx context.Context, _ *server) error {
	for end := time.Now().Add(time.Minute); ; {
		files := 0
		err := filepath.WalkDir(b.site.path(zotProgram), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err == nil && !d.IsDir() && filepath.Base(filepath.Dir(path)) == "sha256" {
				files++
			}
			return err
		})
		if err != nil {
			return err
		}
		if files <= collectedImages/2*(2+crowdLayers) { // a manifest, a config, layers
			return nil
		}
		if time.Now().After(end) {
			return nil // as much as the figure says, at least
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func zotCollectsConfig(s *site, addr string) (any, []string) {
	config, args := zotConfig(s, addr)
	storage := config.(object)["storage"].(object)
	storage["gc"], storage["gcDelay"], storage["gcInterval"] = true, "1s", zotGCEvery.String()
	return config, args
}
