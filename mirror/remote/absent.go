package remote

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// absent reports whether the registry does not have what was asked for.
//
// Of a repository that is not there yet Quay, Docker Hub and GitLab tell that it may not be read,
// since a token for it grants nothing. A push creates it. So with a login that is good 401 and 403
// are taken for absent, and the push decides.
func (r *Run) absent(ctx context.Context, err error) bool {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return true
	case http.StatusUnauthorized, http.StatusForbidden:
		return r.login.good(ctx)
	}
	return false
}
