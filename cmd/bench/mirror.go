package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	mirrorRounds = 3
	mirrorImages = 20
	mirrorSize   = 50e6 // bytes of an image's layer
	smallImages  = 1000
	smallSize    = 8 << 10
	farParallel  = 10 // --parallel-images
	farTrip      = 50 * time.Millisecond
)

// The ways of mirroring that are measured.
const (
	toAppliance   = "mirror to mirror, into the appliance"
	toRegistry    = "mirror to mirror, into distribution"
	toDisk        = "mirror to disk"
	fromDisk      = "disk to mirror, into the appliance"
	fromDiskThere = "disk to mirror, into distribution"
)

// fetchName is the probe that has the network in it.
const fetchName = "fetching probe"

// ways has them in the order in which they run: an archive is written before it is read.
var ways = []string{toAppliance, toRegistry, toDisk, fromDisk, fromDiskThere}

// measureMirror runs the programs themselves, each way right after its probe: one process that reads the same bytes from
// files, hashes and writes them and syncs, with no network. A second probe fetches them from the source instead: what
// comes over a socket costs both of its ends, and on a machine with two processors there is none to spare for that.
func measureMirror(ctx context.Context, b *bench) (_ []row, err error) {
	programs, err := b.mirrorers()
	if err != nil {
		return nil, err
	}
	if len(programs) == 0 || programs[0].name != subjectName {
		return []row{{What: toAppliance, Unit: "s", Verdict: absent, Note: b.appliance + " is not there: make build, or --appliance PATH"}}, nil
	}
	from, err := openBenchSource(b.site)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	m := &mirrorBench{bench: b, from: from, times: map[string]series{}, written: map[string][]float64{}}
	if err := from.fill(ctx, mirrorImages, mirrorSize); err != nil {
		return nil, err
	}
	for range min(b.rounds, mirrorRounds) {
		if err := m.round(ctx, programs); err != nil {
			return nil, err
		}
	}
	rows := m.rows()
	if err := from.fill(ctx, smallImages, smallSize); err != nil {
		return nil, err
	}
	small, err := m.small(ctx, programs[0])
	if err != nil {
		return nil, err
	}
	requests, err := m.requests(ctx, programs[0])
	return append(append(rows, small...), requests), err
}

// mirrorBench collects the figures of some ways.
type mirrorBench struct {
	*bench
	from    *source
	times   map[string]series    // by way
	written map[string][]float64 // by way: bytes of the subject for each byte of content
}

func (m *mirrorBench) round(ctx context.Context, programs []mirrorer) error {
	for _, program := range programs {
		if err := m.of(ctx, program); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirrorBench) add(way, name string, took time.Duration) {
	if m.times[way] == nil {
		m.times[way] = series{}
	}
	m.times[way].add(name, took.Seconds())
}

// touch has the memory at hand that the copies of the content take, in the page cache and on the way to it.
func (m *mirrorBench) touch() error { return touchMemory(3 * int(m.from.bytes)) }

// probes measures what a way is held against. The second probe is for those that have a source.
func (m *mirrorBench) probes(ctx context.Context, way string) error {
	took, err := m.probe(ctx, func(path string) (io.ReadCloser, error) { return os.Open(path) })
	if err != nil {
		return err
	}
	m.add(way, probeName, took)
	if way == fromDisk {
		return nil
	}
	took, err = m.probe(ctx, m.from.fetch)
	m.add(way, fetchName, took)
	return err
}

// probe hashes and writes the blobs of the source, durably.
func (m *mirrorBench) probe(ctx context.Context, open func(path string) (io.ReadCloser, error)) (time.Duration, error) {
	dir := m.site.path("probe")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	blobs, err := filepath.Glob(filepath.Join(m.from.dir, "*"))
	if err != nil {
		return 0, err
	}
	if err := m.touch(); err != nil {
		return 0, err
	}
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for _, path := range blobs {
		g.Go(func() error {
			f, err := open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err = receive(dir, f)
			return err
		})
	}
	err = g.Wait()
	took := time.Since(began)
	return took, errors.Join(err, os.RemoveAll(dir))
}

// of mirrors with one program in all ways. oc-mirror does not go into the appliance: it is measured against distribution.
func (m *mirrorBench) of(ctx context.Context, program mirrorer) (err error) {
	archive := m.site.path("archive")
	defer func() { err = errors.Join(err, os.RemoveAll(archive)) }()
	for _, way := range ways {
		if program.name != subjectName && (way == toAppliance || way == fromDisk) {
			continue
		}
		if err := m.one(ctx, program, way, archive); err != nil {
			return err
		}
	}
	return nil
}

// one mirrors once, into an empty destination.
func (m *mirrorBench) one(ctx context.Context, program mirrorer, way, archive string) (err error) {
	to, end, err := m.destination(ctx, way)
	if err != nil || to == nil && way != toDisk {
		return err // distribution is not on PATH
	}
	defer func() { err = errors.Join(err, end()) }()
	var before int64
	args := []string{"file://" + archive}
	if to != nil {
		args = []string{"--workspace", "file://" + m.site.path("workspace"), "--dest-tls-verify=false", "docker://" + to.addr}
		if way == fromDisk || way == fromDiskThere {
			args = append([]string{"--from", "file://" + archive}, args[2:]...)
		}
		if before, err = to.written(); err != nil {
			return err
		}
		if err := m.prepareMirrors(m.from.imageSet(), to.addr); err != nil {
			return err
		}
	} else if err := m.prepareMirrors(m.from.imageSet()); err != nil {
		return err
	}
	if program.name == subjectName && way != toRegistry && way != fromDiskThere {
		if err := m.probes(ctx, way); err != nil {
			return err
		}
	}
	if err := m.touch(); err != nil {
		return err
	}
	r, err := program.run(ctx, args...)
	if err != nil {
		return err
	}
	m.add(way, program.name, r.took)
	written := r.written
	if to != nil {
		after, err := to.written()
		if err != nil {
			return err
		}
		written += after - before
	}
	if program.name == subjectName {
		m.written[way] = append(m.written[way], float64(written)/float64(m.from.bytes))
	}
	return nil
}

// destination starts an empty registry for a way, nil for none.
func (m *mirrorBench) destination(ctx context.Context, way string) (to *server, end func() error, err error) {
	clean := []string{"workspace", "cache"}
	remove := func() error {
		var errs []error
		for _, name := range clean {
			errs = append(errs, m.site.remove(name))
		}
		return errors.Join(errs...)
	}
	switch way {
	case toDisk:
		return nil, remove, nil
	case toAppliance, fromDisk:
		clean = append(clean, "mirrored")
		s, control, err := m.startSubject(ctx, "mirrored")
		if err != nil {
			return nil, nil, err
		}
		control.Close()
		return s, func() error { return errors.Join(s.stop(), remove()) }, nil
	}
	program, err := exec.LookPath(distributionProgram)
	if errors.Is(err, exec.ErrNotFound) || !m.peers {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	clean = append(clean, distributionProgram)
	s, err := m.startPeer(ctx, distributionProgram, program, distributionConfig)
	if err != nil {
		return nil, nil, err
	}
	return s, func() error { return errors.Join(s.stop(), remove()) }, nil
}
