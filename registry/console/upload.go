package console

import (
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// readForm reads the form of a request: one with a file up to that file, which comes last, so that nothing of
// it is read before the rest is judged, and nothing is kept of it.
func (v *visit) readForm() error {
	if kind, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type")); err != nil || kind != "multipart/form-data" {
		v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
		return v.r.ParseForm()
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, api.MaxExport+maxForm)
	parts, err := v.r.MultipartReader()
	if err != nil {
		return err
	}
	v.r.PostForm = url.Values{}
	defer func() {
		v.r.Form = v.r.URL.Query()
		maps.Copy(v.r.Form, v.r.PostForm)
	}()
	for left := int64(maxForm); ; {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if part.FileName() != "" {
			v.upload = part
			return nil
		}
		value, err := io.ReadAll(io.LimitReader(part, left+1))
		if err != nil {
			return err
		}
		if left -= int64(len(value)) + int64(len(part.FormName())); left < 0 {
			return &http.MaxBytesError{Limit: maxForm}
		}
		v.r.PostForm.Add(part.FormName(), string(value))
	}
}
