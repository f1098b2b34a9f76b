package postgrestest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy stands between a process and the server. It counts answers, can lose notifications, and can be far from the server.
type Proxy struct {
	Answers atomic.Int64 // of the server: one for each round trip
	Delay   atomic.Int64 // of each answer, in nanoseconds
	Mute    atomic.Bool  // notifications are lost

	server   *Server
	dir      string
	listener net.Listener
	mu       sync.Mutex // guards open
	open     map[net.Conn]bool
}

// Proxy returns a new proxy, which the caller closes.
func (s *Server) Proxy() (*Proxy, error) {
	dir, err := os.MkdirTemp("", "proxy") // short: it is in the address of a socket
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p := &Proxy{server: s, dir: dir, listener: l, open: map[net.Conn]bool{}}
	go p.accept()
	return p, nil
}

// Address returns the address of a database of the server by way of the proxy.
func (p *Proxy) Address(address string) string {
	return strings.ReplaceAll(address, "host="+p.server.dir, "host="+p.dir)
}

// Cut ends all connections, as a network does.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // which cannot fail in a way that matters
	}
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Cut()
	return errors.Join(err, os.RemoveAll(p.dir))
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // Close
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", filepath.Join(p.server.dir, ".s.PGSQL.5432"))
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.open[client] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, client)
	}()
	go func() {
		_, _ = io.Copy(server, client) // ends with either
		_ = server.Close()
	}()
	p.answer(client, bufio.NewReader(server))
}

// answer copies the messages of the server.
func (p *Proxy) answer(client io.Writer, server io.Reader) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(server, head[:]); err != nil {
			return
		}
		message := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
		copy(message, head[:])
		if _, err := io.ReadFull(server, message[len(head):]); err != nil {
			return
		}
		switch {
		case head[0] == 'Z': // ReadyForQuery
			p.Answers.Add(1)
			time.Sleep(time.Duration(p.Delay.Load()))
		case head[0] == 'A' && p.Mute.Load(): // NotificationResponse
			continue
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}
