package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
)

// The programs of others, as they call them.
const (
	distributionProgram = "registry"
	zotProgram          = "zot"
)

// startPeers starts those that are on PATH, with the same certificate, logging at the level that they
// log at unasked, and without a login: to let them check passwords would only slow them down.
func (b *bench) startPeers(ctx context.Context) (peers []*server, err error) {
	if !b.peers {
		return nil, nil
	}
	for name, configure := range map[string]func(*site, string) (any, []string){distributionProgram: distributionConfig, zotProgram: zotConfig} {
		program, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, stopAll(peers))
		}
		p, err := b.startPeer(ctx, name, program, configure)
		if err != nil {
			return nil, errors.Join(err, stopAll(peers))
		}
		peers = append(peers, p)
	}
	return peers, nil
}

func (b *bench) startPeer(ctx context.Context, name, program string, configure func(*site, string) (any, []string)) (*server, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	content, args := configure(b.site, addr)
	text, err := json.Marshal(content) // which is YAML too
	if err != nil {
		return nil, err
	}
	file := b.site.path(name + ".json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return start(ctx, b.site, name, addr, anonymous, program, append(args, file)...)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

type object map[string]any

func distributionConfig(s *site, addr string) (any, []string) {
	return object{
		"version": 0.1,
		"log":     object{"level": "info"},
		"storage": object{
			"filesystem": object{"rootdirectory": s.path(distributionProgram)},
			"cache":      object{"blobdescriptor": "inmemory"},
			"delete":     object{"enabled": true},
		},
		"http": object{"addr": addr, "tls": object{"certificate": s.cert(), "key": s.key()}},
	}, []string{"serve"}
}

// zotConfig has it sync blobs before it acknowledges them, as the others do.
func zotConfig(s *site, addr string) (any, []string) {
	host, port, _ := net.SplitHostPort(addr)
	return object{
		"distSpecVersion": "1.1.1",
		"storage":         object{"rootDirectory": s.path(zotProgram), "commit": true, "gc": false},
		"http":            object{"address": host, "port": port, "tls": object{"cert": s.cert(), "key": s.key()}},
		"log":             object{"level": "info"},
	}, []string{"serve"}
}
