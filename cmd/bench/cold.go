package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

const (
	coldClients = 20
	coldCrowd   = 100
	coldRounds  = 3
	crowdRounds = 6
	coldFirsts  = 15 // blobs of which the first byte is measured
	coldRepo    = "bench/cold"
)

// A coldSite is what pulls through, and the registry at the other end of a slow link.
type coldSite struct {
	*bench
	origin  *server
	link    *slowLink
	servers []*server // the subject first
	probe   *server
}

// measureCold has clients pull an image that the server does not have, over one slow link to the
// upstream: a second download of it costs as much again. The probe is one client that pulls it over
// the link itself, and for many clients a server that has it in a file.
func measureCold(ctx context.Context, b *bench) (rows []row, err error) {
	c := &coldSite{bench: b}
	origin, control, err := b.startSubject(ctx, "origin")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, origin.stop(), b.site.remove("origin")) }()
	control.Close()
	c.origin = origin
	if c.link, err = openSlowLink(b.site, origin); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.link.close()) }()
	c.servers, err = b.startCold(ctx, c.link.url())
	defer func() { err = errors.Join(err, stopAll(c.servers), b.site.remove("cold")) }()
	if err != nil {
		return nil, err
	}
	if c.probe, err = b.startProbe(ctx, probeName); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.probe.stop()) }()
	for _, measure := range []func(context.Context) ([]row, error){c.slowest, c.crowds, c.firsts, c.warm} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// push gives the origin an image that nothing else has.
func (c *coldSite) push(ctx context.Context, tag string, layers, size int) (image, error) {
	client := newClient(c.site, c.origin, h1)
	defer client.close()
	i, err := newImage("cold/"+tag, layers, size)
	if err != nil {
		return i, err
	}
	return i, client.pushImage(ctx, coldRepo, tag, i)
}

// paths are those of an image at a server, the last layer last.
func (c *coldSite) paths(s *server, tag string, i image) []string {
	repo := "/v2/" + coldRepo + "/"
	if s.name == subjectName {
		repo = "/v2/" + coldPrefix + "/" + coldRepo + "/"
	}
	all := []string{repo + "manifests/" + tag}
	for _, blob := range i.blobs {
		all = append(all, repo+blobPath(blob))
	}
	return all
}

// slowest is how long the slowest of some clients takes, and what that costs of the link.
func (c *coldSite) slowest(ctx context.Context) ([]row, error) {
	took, sent := series{}, series{}
	for round := range coldRounds {
		tag := fmt.Sprint("slowest", round)
		i, err := c.push(ctx, tag, 1, int(c.blobSize))
		if err != nil {
			return nil, err
		}
		direct, err := c.link.direct(ctx, tag, i)
		if err != nil {
			return nil, err
		}
		took.add(probeName, direct.Seconds())
		for _, s := range c.servers {
			before := c.link.sent.Load()
			t, err := c.crowd(ctx, s, coldClients, c.paths(s, tag, i), c.blobSize)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			took.add(s.name, t.Seconds())
			sent.add(s.name, float64(c.link.sent.Load()-before)/float64(c.blobSize))
		}
	}
	what := fmt.Sprintf("cold pull of %d MB by %d clients over a link of %d MB/s", c.blobSize/1e6, coldClients, int(coldRate/1e6))
	return []row{took.row(what+": the slowest", "s").atMost(1.1), sent.row(what+": sent by the upstream, of each byte", "×").under(1.01)}, nil
}

// crowds is what many clients get together, beside what the same clients get of a server that has
// the blob, and the memory that it takes. The far end of the link runs on this machine: so that it
// takes from both alike, one client pulls the image over the link while the probe has its turn.
func (c *coldSite) crowds(ctx context.Context) ([]row, error) {
	speed, cost, most := series{}, series{}, 0.0
	subject := c.servers[0]
	turns := contest{servers: []*server{subject, c.probe}}
	for round := range crowdRounds {
		tag := fmt.Sprint("crowd", round)
		i, err := c.push(ctx, tag, 1, int(c.blobSize))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(c.site.path("probe", "large"), i.blobs[1], 0o600); err != nil {
			return nil, err
		}
		err = turns.each(round, func(s *server) error {
			paths := []string{probeFile + "large"}
			if s == subject {
				paths = c.paths(s, tag, i)
			}
			before, err := s.memory("VmRSS")
			if err := errors.Join(err, s.forgetPeak()); err != nil {
				return err
			}
			var far errgroup.Group
			if s == c.probe {
				far.Go(func() error { _, err := c.link.direct(ctx, tag, i); return err })
			}
			err = s.timed(true, coldCrowd*c.blobSize, speed, cost, func() error {
				_, err := c.crowd(ctx, s, coldCrowd, paths, c.blobSize)
				return err
			})
			err = errors.Join(err, far.Wait())
			peak, failed := s.memory("VmHWM")
			if s == subject {
				most = max(most, peak-before)
			}
			return errors.Join(err, failed)
		})
		if err != nil {
			return nil, err
		}
	}
	what := fmt.Sprintf("cold pull of %d MB by %d clients", c.blobSize/1e6, coldCrowd)
	return []row{speed.row(what, "MB/s").atLeast(0.9), cost.row(what+", CPU", "ms").atMost(1.15),
		row{What: what + ": growth of memory", Unit: "MiB", Value: most}.under(200)}, nil
}

// firsts is when the first byte of a cold blob comes, over connections that are open.
func (c *coldSite) firsts(ctx context.Context) ([]row, error) {
	const tag = "firsts"
	i, err := c.push(ctx, tag, coldFirsts, 1e6)
	if err != nil {
		return nil, err
	}
	if _, err := c.link.get(ctx, "manifests/"+tag, int64(len(i.manifest))); err != nil {
		return nil, err
	}
	subject := c.servers[0]
	client := newClient(c.site, subject, h1)
	defer client.close()
	paths := c.paths(subject, tag, i)
	for _, path := range paths[:2] {
		if _, err := client.get(ctx, path); err != nil {
			return nil, err
		}
	}
	first := series{}
	for n, layer := range i.blobs[1:] {
		direct, err := c.link.get(ctx, blobPath(layer), int64(len(layer)))
		if err != nil {
			return nil, err
		}
		first.add(probeName, milliseconds(direct))
		a, err := client.get(ctx, paths[2+n])
		if err != nil {
			return nil, err
		}
		first.add(subjectName, milliseconds(a.first))
	}
	return []row{first.row("first byte of a cold blob", "ms").atMost(1.2)}, nil
}

// warm is the speed of a blob that was pulled through, beside one that was pushed to the same server.
func (c *coldSite) warm(ctx context.Context) ([]row, error) {
	const tag = "warm"
	i, err := c.push(ctx, tag, 1, int(c.blobSize))
	if err != nil {
		return nil, err
	}
	subject := c.servers[0]
	client := newClient(c.site, subject, h1)
	defer client.close()
	held := bytes.Clone(i.blobs[1])
	held[0]++
	d := digest.FromBytes(held)
	if err := client.push(ctx, largeRepo, d, bytes.NewReader(held), int64(len(held))); err != nil {
		return nil, err
	}
	paths := c.paths(subject, tag, i)
	for _, path := range paths {
		if _, err := client.get(ctx, path); err != nil {
			return nil, err
		}
	}
	speed := series{}
	for range getsPerRound * c.rounds {
		for as, path := range map[string]string{subjectName: paths[2], probeName: "/v2/" + largeRepo + "/blobs/" + d.String()} {
			began := time.Now()
			if _, err := client.get(ctx, path); err != nil {
				return nil, err
			}
			speed.add(as, float64(c.blobSize)/1e6/time.Since(began).Seconds())
		}
	}
	r := speed.row(fmt.Sprintf("blob GET %d MB that was pulled through, h1", c.blobSize/1e6), "MB/s").atLeast(0.95)
	r.Note = "the probe is a blob of the same registry that was pushed"
	return []row{r}, nil
}

// startCold starts what pulls through: the subject, and the others that are on this machine.
func (b *bench) startCold(ctx context.Context, upstream string) (servers []*server, err error) {
	const name = "cold"
	if err := b.site.remove(name); err != nil {
		return nil, err
	}
	s, control, err := b.startSubject(ctx, name, "--upstream", upstream)
	if err != nil {
		return nil, err
	}
	control.Close()
	s.name = subjectName
	servers = append(servers, s)
	if !b.peers {
		return servers, nil
	}
	for name, configure := range map[string]func(*site, string) (any, []string){distributionProgram: distributionConfig, zotProgram: zotConfig} {
		program, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return servers, err
		}
		if err := b.site.remove(name); err != nil { // what an earlier row has left
			return servers, err
		}
		p, err := b.startPeer(ctx, name, program, func(at *site, addr string) (any, []string) {
			config, args := configure(at, addr)
			return pullThrough(config.(object), name, upstream), args
		})
		if err != nil {
			return servers, err
		}
		servers = append(servers, p)
	}
	return servers, nil
}

// pullThrough adds an upstream to the configuration of a peer.
func pullThrough(config object, name, upstream string) object {
	if name == distributionProgram {
		config["proxy"] = object{"remoteurl": upstream}
		return config
	}
	config["extensions"] = object{"sync": object{"enable": true, "registries": []object{
		{"urls": []string{upstream}, "onDemand": true, "tlsVerify": false, "content": []object{{"prefix": "**"}}},
	}}}
	return config
}
