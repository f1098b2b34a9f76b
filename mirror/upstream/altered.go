package upstream

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/webpage"
)

// maxPage is the largest page that is told apart from a blob that is one.
const maxPage = 1 << 20

// isPage reports whether an answer is a web page instead of a blob, and not a blob that is a page.
// The body is left to be read whole.
func isPage(resp *http.Response, blob digest.Digest) bool {
	if !webpage.Is(resp) || resp.ContentLength > maxPage {
		return false
	}
	start, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	resp.Body = &prefixed{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	return err == nil && len(start) <= maxPage && blob.Algorithm().FromBytes(start) != blob
}

// prefixed reads what has been read of a body first.
type prefixed struct {
	io.Reader
	io.Closer
}

// unpacked returns a document, which is JSON, as it was before a proxy compressed it unasked.
func unpacked(body []byte, limit int64) ([]byte, error) {
	if !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		return body, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, limit+1))
}
