package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	pushesAtOnce = 64
	idleAfter    = 3 * time.Second // for what the start left behind to settle
)

// measureMemory reads what the kernel counts as resident. The probe here is an empty Go TLS server: the
// runtime, net/http and crypto/tls, with nothing of a registry.
func measureMemory(ctx context.Context, b *bench) (rows []row, err error) {
	probe, err := b.startProbe(ctx, probeName)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, probe.stop()) }()
	for _, p := range []protocol{h1, h2} {
		r, err := b.memoryOf(ctx, probe, p)
		if err != nil {
			return nil, err
		}
		if p == h2 {
			r = r[1:] // idle is idle
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (b *bench) memoryOf(ctx context.Context, probe *server, p protocol) (_ []row, err error) {
	name := "memory-" + p.short()
	subject, control, err := b.startSubject(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, subject.stop(), b.site.remove(name)) }()
	defer control.Close()
	select {
	case <-time.After(idleAfter):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	idle := row{What: "memory, idle", Unit: "MiB"}
	if idle.Value, err = subject.memory("VmRSS"); err != nil {
		return nil, err
	}
	if idle.Probe, err = probe.memory("VmRSS"); err != nil {
		return nil, err
	}
	idle.Ratio = idle.Value / idle.Probe
	began := time.Now()
	if err := b.pushAtOnce(ctx, subject, p); err != nil {
		return nil, err
	}
	speed := float64(pushesAtOnce) * float64(b.blobSize) / 1e6 / time.Since(began).Seconds()
	busy := row{What: fmt.Sprintf("memory, %d pushes of %d MB at once, %s", pushesAtOnce, b.blobSize/1e6, p.short()), Unit: "MiB",
		Note: fmt.Sprintf("each over a connection of its own; %.0f MB/s together", speed)}
	if busy.Value, err = subject.memory("VmHWM"); err != nil {
		return nil, err
	}
	return []row{idle.under(60), busy.under(300)}, nil
}

// pushAtOnce pushes as many different blobs, each by a client of its own.
func (b *bench) pushAtOnce(ctx context.Context, s *server, p protocol) error {
	l, err := newLarge(b.blobSize)
	if err != nil {
		return err
	}
	_, tail, err := l.next()
	if err != nil {
		return err
	}
	shared := tail[:len(tail)-8] // of all of them: 64 bodies in memory would be the load generator's problem
	g, ctx := errgroup.WithContext(ctx)
	for range pushesAtOnce {
		d, body, err := l.next()
		if err != nil {
			return err
		}
		end := bytes.Clone(body[len(body)-8:])
		g.Go(func() error {
			return b.pushOne(ctx, s, p, d, io.MultiReader(bytes.NewReader(shared), bytes.NewReader(end)))
		})
	}
	return g.Wait()
}

func (b *bench) pushOne(ctx context.Context, s *server, p protocol, d digest.Digest, body io.Reader) error {
	c := newClient(b.site, s, p)
	defer c.close()
	return c.push(ctx, largeRepo, d, body, b.blobSize)
}

// touchMemory writes to every page of so many free bytes and frees them again. A host takes the free memory of a virtual
// machine back and gives it out anew at the first write, which then costs more than hashing what is written: what comes
// first in a round would pay it for the rest.
func touchMemory(bytes int) error {
	p, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("touch %d bytes of memory: %w", bytes, err)
	}
	for i := 0; i < len(p); i += os.Getpagesize() {
		p[i] = 1
	}
	return unix.Munmap(p)
}
