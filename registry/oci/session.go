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

// offsetParameter is in the Location of a session and says how much of the blob the session held when that Location was
// given out. A client that has not had the answer to a part sends that part again to the Location that it knows; without
// the parameter the part would be appended twice, and all of the upload be lost to a wrong digest at its end.
const offsetParameter = "offset"

// standing is the headers that say where a session stands and how to go on with it.
func standing(repo string, upload *store.Upload) map[string]string {
	size := upload.Size()
	location := target{kind: kindUpload, repo: repo, id: upload.ID()}.path()
	return map[string]string{
		"Location":           location + "?" + url.Values{offsetParameter: {strconv.FormatInt(size, 10)}}.Encode(),
		"Range":              rangeHeader(size),
		"Docker-Upload-Uuid": upload.ID(),
	}
}

// answerStanding lets go of a session and answers with where it stands. What the client is told of is on disk by then.
func answerStanding(w http.ResponseWriter, repo string, upload *store.Upload, status int) error {
	if err := upload.Close(); err != nil {
		return aboutUpload.explain(fmt.Errorf("close upload: %w", err))
	}
	h := w.Header()
	setVersion(h)
	for name, value := range standing(repo, upload) {
		h.Set(name, value)
	}
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
	return nil
}

// refusedPart explains why a part of an upload was not taken, or not all of it, and says where the session stands, so
// that the client can go on. A full disk ends the session: kept, what has arrived would hold the space that a delete or
// a collection needs to make room.
func refusedPart(ctx context.Context, repo string, upload *store.Upload, err error) error {
	explained := aboutUpload.explain(err)
	var full *store.FullError
	if errors.As(err, &full) {
		_ = upload.Cancel(context.WithoutCancel(ctx)) // two files, which collection takes otherwise
		return explained
	}
	var p *problem
	if !errors.As(explained, &p) {
		return explained
	}
	if err := upload.Close(); err != nil {
		return aboutUpload.explain(fmt.Errorf("close upload: %w", err))
	}
	p.header = maps.Clone(p.header)
	if p.header == nil {
		p.header = make(map[string]string)
	}
	maps.Copy(p.header, standing(repo, upload))
	return p
}

// partOf is what Content-Range says of a request's body. Without one, start and length are -1.
func partOf(r *http.Request) (span, error) {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return span{start: -1, length: -1}, nil
	}
	part, err := parseContentRange(header)
	if err == nil && r.ContentLength >= 0 && r.ContentLength != part.length {
		err = errLength(part.length, r.ContentLength)
	}
	return part, err
}

// offsetOf is the parameter that a Location has, -1 without it: clients that know a session by its path alone may go
// on with it, as with a daemon that had no such parameter.
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

// errBody is for a body that ends too early or is not encoded as its header says. Mostly the client is gone by then.
func errBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem{status: http.StatusRequestTimeout, code: codeSizeInvalid, message: "the request's body has stopped arriving", cause: err}
	}
	return &problem{status: http.StatusBadRequest, code: codeSizeInvalid, message: "the request's body could not be read: " + err.Error(), cause: err}
}

// body is the body of a request whose errors are told to be the client's, and not the disk's.
type body struct {
	io.ReadCloser
	announced int64 // by Content-Range; -1 if not
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
