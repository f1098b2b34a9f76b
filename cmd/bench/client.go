package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A protocol is the HTTP that a client speaks.
type protocol string

const (
	h1 protocol = "http/1.1"
	h2 protocol = "h2"
)

// short is what a protocol is called in the table.
func (p protocol) short() string {
	if p == h2 {
		return "h2"
	}
	return "h1"
}

// A client speaks to one server over connections of its own.
type client struct {
	http   *http.Client
	server *server
	buffer []byte
}

func newClient(at *site, s *server, p protocol) *client {
	t := &http.Transport{
		TLSClientConfig: at.clientTLS(string(p)), ForceAttemptHTTP2: p == h2,
		MaxIdleConnsPerHost: 4, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.addr)
		},
	}
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(p == h1)
	t.Protocols.SetHTTP2(p == h2)
	return &client{http: &http.Client{Transport: t}, server: s, buffer: make([]byte, 256<<10)}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// answer is what is left of a response once it is read.
type answer struct {
	status int
	header http.Header
	length int64
	begin  string        // of the body, for messages
	first  time.Duration // from the request to the first byte of the body
}

// statusError is an answer that was not the one hoped for.
type statusError struct {
	method, path string
	answer       answer
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.method, e.path, e.answer.status, e.answer.begin)
}

// do sends a request and reads the whole answer; want is the status that there has to be.
func (c *client) do(ctx context.Context, method, path string, body io.Reader, length int64, contentType string, want int) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+hostname+path, body)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		r.ContentLength = length
		r.Header.Set("Content-Type", contentType)
	}
	if method == http.MethodGet {
		r.Header.Set("Accept", acceptManifests+", */*")
	}
	if c.server.scheme == basic {
		r.SetBasicAuth(user, password)
	}
	began := time.Now()
	resp, err := c.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	for {
		n, err := resp.Body.Read(c.buffer)
		if a.length == 0 {
			a.first = time.Since(began)
		}
		if a.length == 0 && resp.StatusCode >= 300 {
			a.begin = strings.TrimSpace(string(c.buffer[:min(n, 200)]))
		}
		a.length += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return a, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	if a.status != want {
		return a, &statusError{method: method, path: path, answer: a}
	}
	return a, nil
}

func (c *client) get(ctx context.Context, path string) (answer, error) {
	return c.do(ctx, http.MethodGet, path, nil, 0, "", http.StatusOK)
}

// push uploads a blob in two requests, as crane does.
func (c *client) push(ctx context.Context, repo string, d digest.Digest, body io.Reader, length int64) error {
	a, err := c.do(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", http.NoBody, 0, "", http.StatusAccepted)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPut, withDigest(a.location(), d), body, length, "application/octet-stream", http.StatusCreated)
	return err
}

// pushChunked uploads a blob in three requests, as podman and skopeo do: the second has the bytes, and no length.
func (c *client) pushChunked(ctx context.Context, repo string, d digest.Digest, body io.Reader) error {
	a, err := c.do(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", http.NoBody, 0, "", http.StatusAccepted)
	if err != nil {
		return err
	}
	chunked := struct{ io.Reader }{body}
	a, err = c.do(ctx, http.MethodPatch, a.location(), chunked, -1, "application/octet-stream", http.StatusAccepted)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPut, withDigest(a.location(), d), http.NoBody, 0, "application/octet-stream", http.StatusCreated)
	return err
}

// location is where an upload goes on.
func (a answer) location() string {
	return strings.TrimPrefix(a.header.Get("Location"), "https://"+hostname)
}

func withDigest(path string, d digest.Digest) string {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return path + separator + "digest=" + d.String()
}

// image is a small image: its manifest and what that is made of.
type image struct {
	digest   digest.Digest
	manifest []byte
	blobs    [][]byte
}

// newImage makes an image of a config and layers that hold seed, so that different seeds are different content.
func newImage(seed string, layers, size int) (image, error) {
	var i image
	describe := func(mediaType string, content []byte) ocispec.Descriptor {
		i.blobs = append(i.blobs, content)
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = describe(ocispec.MediaTypeImageConfig, fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Labels":{"seed":%q}},"rootfs":{"type":"layers","diff_ids":[]}}`, seed))
	for n := range layers {
		m.Layers = append(m.Layers, describe(ocispec.MediaTypeImageLayerGzip, noise(fmt.Sprintf("%s/%d", seed, n), size)))
	}
	var err error
	i.manifest, err = json.Marshal(m)
	i.digest = digest.FromBytes(i.manifest)
	return i, err
}

// noise is content that is always the same for a seed and does not compress.
func noise(seed string, size int) []byte {
	content := make([]byte, 0, size+sha256.Size)
	block := sha256.Sum256([]byte(seed))
	for len(content) < size {
		content = append(content, block[:]...)
		block = sha256.Sum256(block[:])
	}
	return content[:size]
}

func (c *client) pushImage(ctx context.Context, repo, tag string, i image) error {
	for _, blob := range i.blobs {
		if err := c.push(ctx, repo, digest.FromBytes(blob), bytes.NewReader(blob), int64(len(blob))); err != nil {
			return err
		}
	}
	if tag == "" {
		tag = i.digest.String()
	}
	_, err := c.do(ctx, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(i.manifest), int64(len(i.manifest)),
		ocispec.MediaTypeImageManifest, http.StatusCreated)
	return err
}
