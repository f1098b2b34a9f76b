package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Delete deletes a manifest with all tags that name it, or one tag alone. What does not exist is an
// error with fs.ErrNotExist.
func (r *Run) Delete(ctx context.Context, repo, ref string) error {
	within := r.registry.Repo(repo)
	var what name.Reference = within.Tag(ref)
	if strings.Contains(ref, ":") {
		what = within.Digest(ref)
	}
	err := r.pusher.Delete(ctx, what)
	var answer *transport.Error
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	}
	return r.failed("delete "+what.String(), err)
}
