package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/mirror-appliance/appliance/registry/store"
)

// offsetParameter is a query parameter of a session's Location: the size of the session when the Location was sent. A
// client that missed the answer to a chunk sends the chunk again to the Location that it has. Without the parameter the
// chunk would be appended twice, and the upload would fail with a wrong digest.
const offsetParameter = "offset"

// sessionHeaders are the headers that tell a client how to continue a session.
func sessionHeaders(repo string, upload *store.Upload) map[string]string {
	size := upload.Size()
	location := target{kind: kindUpload, repo: repo, id: upload.ID()}.path()
	return map[string]string{
		"Location":           location + "?" + url.Values{offsetParameter: {strconv.FormatInt(size, 10)}}.Encode(),
		"Range":              rangeHeader(size),
		"Docker-Upload-Uuid": upload.ID(),
	}
}

// answerSession closes a session, so that its content is on disk, and answers with its headers.
func answerSession(w http.ResponseWriter, repo string, upload *store.Upload, status int) error {
	if err := upload.Close(); err != nil {
		return uploadCodes.explain(fmt.Errorf("close upload: %w", err))
	}
	h := w.Header()
	setVersion(h)
	for name, value := range sessionHeaders(repo, upload) {
		h.Set(name, value)
	}
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
	return nil
}

// refuseChunk returns the error of a chunk, with the headers that tell the client how to continue. A full disk cancels the
// session: its content would use space that a delete or a collection needs.
func refuseChunk(ctx context.Context, repo string, upload *store.Upload, err error) error {
	explained := uploadCodes.explain(err)
	var full *store.FullError
	if errors.As(err, &full) {
		_ = upload.Cancel(context.WithoutCancel(ctx)) // if this fails, collection removes the files
		return explained
	}
	var p *problem
	if !errors.As(explained, &p) {
		return explained
	}
	if err := upload.Close(); err != nil {
		return uploadCodes.explain(fmt.Errorf("close upload: %w", err))
	}
	p.header = maps.Clone(p.header)
	if p.header == nil {
		p.header = make(map[string]string)
	}
	maps.Copy(p.header, sessionHeaders(repo, upload))
	return p
}

// chunkOf parses the Content-Range of a request. Without one, start and length are -1.
func chunkOf(r *http.Request) (span, error) {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return span{start: -1, length: -1}, nil
	}
	chunk, err := parseContentRange(header)
	if err == nil && r.ContentLength >= 0 && r.ContentLength != chunk.length {
		err = errLength(chunk.length, r.ContentLength)
	}
	return chunk, err
}

// offsetOf returns the offset of a Location, -1 without one: clients may continue a session by its path alone, as with
// versions that had no such parameter.
func offsetOf(r *http.Request) int64 {
	offset, ok := parseDecimal(r.URL.Query().Get(offsetParameter))
	if !ok {
		return -1
	}
	return offset
}

func errLength(announced, sent int64) error {
	return &problem{status: http.StatusBadRequest, code: codeSizeInvalid,
		message: fmt.Sprintf("Content-Range announces %d bytes, the body has %d", announced, sent)}
}

// errBody reports a body that is incomplete or malformed. Mostly the client has gone by then.
func errBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem{status: http.StatusRequestTimeout, code: codeSizeInvalid, message: "the request's body has stopped arriving", cause: err}
	}
	return &problem{status: http.StatusBadRequest, code: codeSizeInvalid, message: "the request's body could not be read: " + err.Error(), cause: err}
}

// body is a request's body whose errors are reported as the client's, not the disk's.
type body struct {
	io.ReadCloser
	announced int64 // by Content-Range, or -1
	read      int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case b.announced >= 0 && (b.read > b.announced || err == io.EOF && b.read < b.announced):
		return n, errLength(b.announced, b.read)
	case err != nil && err != io.EOF:
		return n, errBody(err)
	}
	return n, err
}
