package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// A large is content of which there is a new version at no cost: the last eight bytes count.
type large struct {
	body   []byte
	prefix []byte // state of the hash before the count
	count  uint64
}

func newLarge(size int64) (*large, error) {
	l := &large{body: make([]byte, size)}
	rand.NewChaCha8([32]byte{1}).Read(l.body)
	h := sha256.New()
	h.Write(l.body[:size-8])
	var err error
	l.prefix, err = h.(encoding.BinaryMarshaler).MarshalBinary()
	return l, err
}

// next is content that no server has had before, valid until the next call.
func (l *large) next() (digest.Digest, []byte, error) {
	l.count++
	end := l.body[len(l.body)-8:]
	binary.BigEndian.PutUint64(end, l.count)
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(l.prefix); err != nil {
		return "", nil, err
	}
	h.Write(end)
	return digest.NewDigest(digest.SHA256, hash.Hash(h)), l.body, nil
}

// clients has one for every server, over one protocol.
func (c *contest) clients(at *site, p protocol) map[*server]*client {
	all := map[*server]*client{}
	for _, s := range c.servers {
		all[s] = newClient(at, s, p)
	}
	return all
}

func closeClients(all map[*server]*client) {
	for _, c := range all {
		c.close()
	}
}

const (
	largeRepo = "bench/large"
	// A GET takes a tenth of a second, in which a neighbour's burst weighs more than in other rows.
	getsPerRound = 4
)

func measureGets(ctx context.Context, b *bench) (_ []row, err error) {
	c, err := b.startContest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopAll(c.servers)) }()
	path, err := b.seedLarge(ctx, c)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, p := range []protocol{h1, h2} {
		r, err := b.gets(ctx, c, p, path)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// seedLarge gives every server the same blob.
func (b *bench) seedLarge(ctx context.Context, c *contest) (func(*server) string, error) {
	l, err := newLarge(b.blobSize)
	if err != nil {
		return nil, err
	}
	d, body, err := l.next()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(b.site.path("probe"), "large"), body, 0o600); err != nil {
		return nil, err
	}
	for _, s := range c.servers {
		if s.name == probeName {
			continue
		}
		client := newClient(b.site, s, h1)
		defer client.close()
		if err := client.push(ctx, largeRepo, d, bytes.NewReader(body), int64(len(body))); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return func(s *server) string {
		if s.name == probeName {
			return probeFile + "large"
		}
		return "/v2/" + largeRepo + "/blobs/" + d.String()
	}, nil
}

func (b *bench) gets(ctx context.Context, c *contest, p protocol, path func(*server) string) ([]row, error) {
	clients := c.clients(b.site, p)
	defer closeClients(clients)
	speed, cost := series{}, series{}
	for round := range getsPerRound*b.rounds + 1 {
		err := c.each(round, func(s *server) error {
			return s.timed(round > 0, b.blobSize, speed, cost, func() error {
				a, err := clients[s].get(ctx, path(s))
				if err == nil && a.length != b.blobSize {
					err = fmt.Errorf("%d bytes came, not %d", a.length, b.blobSize)
				}
				return err
			})
		})
		if err != nil {
			return nil, err
		}
	}
	what := fmt.Sprintf("blob GET %d MB, %s", b.blobSize/1e6, p.short())
	return []row{speed.row(what, "MB/s").atLeast(0.95), cost.row(what+", CPU", "ms").atMost(1.15)}, nil
}

// timed runs fn, and notes the speed and the server's CPU if it counts.
func (s *server) timed(counts bool, size int64, speed, cost series, fn func() error) error {
	before, err := s.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := fn(); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := s.cpu()
	if counts && err == nil {
		speed.add(s.name, float64(size)/1e6/took.Seconds())
		cost.add(s.name, milliseconds(after-before))
	}
	return err
}

func measurePuts(ctx context.Context, b *bench) (_ []row, err error) {
	c, err := b.startContest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopAll(c.servers)) }()
	var rows []row
	for _, way := range []struct {
		what   string
		p      protocol
		podman bool
		first  uint64 // count of the first content, so that no two ways push the same
	}{{"h1", h1, false, 0}, {"h2", h2, false, 1 << 32}, {"h1 as podman sends it", h1, true, 2 << 32}} {
		r, err := b.puts(ctx, c, way.what, way.p, way.podman, way.first)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (b *bench) puts(ctx context.Context, c *contest, how string, p protocol, podman bool, first uint64) ([]row, error) {
	l, err := newLarge(b.blobSize)
	if err != nil {
		return nil, err
	}
	l.count = first
	clients := c.clients(b.site, p)
	defer closeClients(clients)
	speed, cost := series{}, series{}
	for round := range b.rounds + 1 {
		d, body, err := l.next()
		if err != nil {
			return nil, err
		}
		err = c.each(round, func(s *server) error {
			err := s.timed(round > 0, b.blobSize, speed, cost, func() error {
				if podman && !s.isProbe() {
					return clients[s].pushChunked(ctx, largeRepo, d, bytes.NewReader(body))
				}
				return clients[s].store(ctx, d, bytes.NewReader(body), b.blobSize)
			})
			return errors.Join(err, b.clearProbe())
		})
		if err != nil {
			return nil, err
		}
	}
	what := fmt.Sprintf("blob PUT %d MB, durable, %s", b.blobSize/1e6, how)
	rows := []row{speed.row(what, "MB/s").atLeast(0.95), cost.row(what+", CPU", "ms").atMost(1.25)}
	if p == h2 {
		rows = append(rows, versus(what, "MB/s", speed, distributionProgram, 1))
	}
	return rows, nil
}

// store uploads to a registry, or to the probe.
func (c *client) store(ctx context.Context, d digest.Digest, body io.Reader, length int64) error {
	if c.server.isProbe() {
		a, err := c.do(ctx, http.MethodPut, probeUpload, body, length, "application/octet-stream", http.StatusCreated)
		if err == nil && a.header.Get("Docker-Content-Digest") != d.String() {
			err = errors.New("the probe received something else")
		}
		return err
	}
	return c.push(ctx, largeRepo, d, body, length)
}

func (s *server) isProbe() bool {
	return s.scheme == anonymous && s.name != distributionProgram && s.name != zotProgram
}

// clearProbe removes what the probe was sent.
func (b *bench) clearProbe() error {
	files, err := filepath.Glob(filepath.Join(b.site.path("probe"), "upload-*"))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}
