package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A wire is one HTTP/1.1 connection that costs next to nothing. net/http's client spends more on a small
// answer than the servers do, and would measure itself.
type wire struct {
	conn *tls.Conn
	r    *bufio.Reader
	auth string
}

func dialWire(ctx context.Context, at *site, s *server) (*wire, error) {
	conn, err := (&tls.Dialer{Config: at.clientTLS("http/1.1")}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn.(*tls.Conn), r: bufio.NewReaderSize(conn, 16<<10)}
	if s.scheme == basic {
		w.auth = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
	}
	return w, nil
}

// acceptManifests are the types that every client asks for; distribution answers 404 to one that does not.
const acceptManifests = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"

// request is the text of a GET as podman sends it, with more lines of its header.
func (w *wire) request(path string, more ...string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: " + hostname + "\r\nUser-Agent: bench\r\n" +
		"Accept: " + acceptManifests + "\r\n" +
		w.auth + strings.Join(more, "") + "\r\n")
}

// do sends a request, reads the answer whole, and returns the length of its body.
func (w *wire) do(request []byte) (int64, error) {
	if _, err := w.conn.Write(request); err != nil {
		return 0, err
	}
	length, err := w.begin()
	if err != nil {
		return 0, err
	}
	_, err = w.r.Discard(int(length))
	return length, err
}

// begin reads an answer up to its body, and returns the length of that.
func (w *wire) begin() (length int64, err error) {
	status, err := w.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(status) <= 12 || string(status[9:12]) != "200" {
		return 0, fmt.Errorf("answered %s", strings.TrimSpace(string(status)))
	}
	return w.skipHeader()
}

// skipHeader returns the Content-Length.
func (w *wire) skipHeader() (int64, error) {
	length := int64(-1)
	for {
		line, err := w.r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case len(line) <= 2 && length < 0:
			return 0, errors.New("the answer has no Content-Length")
		case len(line) <= 2:
			return length, nil
		case len(line) > 16 && strings.EqualFold(string(line[:15]), "Content-Length:"):
			if length, err = strconv.ParseInt(strings.TrimSpace(string(line[15:])), 10, 64); err != nil {
				return 0, err
			}
		}
	}
}
