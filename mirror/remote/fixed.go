package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// fixed is in the texts of registries that do not let a tag be moved. Status and code differ: 400
// TAG_INVALID (ECR), 412 (Harbor), 409 (Quay), 403 (Artifactory, GitLab), 400 (Nexus).
var fixed = regexp.MustCompile(`(?i)immutable|already exists|overwrit|protected|redeploy|not allow updating`)

// fixedError is a tag that names another manifest and may not be moved.
type fixedError struct {
	error
	names string
}

func (e *fixedError) Error() string {
	return fmt.Sprintf("it names %s there and may not be moved: %s", e.names, e.error.Error())
}

func (e *fixedError) Unwrap() error { return e.error }

// Hint returns what to do about it.
func (e *fixedError) Hint() string {
	return "the tag is immutable: delete it at the registry, or except it from the rule there, and run the same command again"
}

// refusedTag returns the error of a tag that the registry did not set, and nil if it names the
// manifest already: the answer that said so was lost, and an immutable tag is refused after that.
func (r *Run) refusedTag(ctx context.Context, t tag, err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return err
	}
	conflict := false
	switch answer.StatusCode {
	case http.StatusConflict, http.StatusPreconditionFailed:
		conflict = true
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusUnprocessableEntity:
	default:
		return err
	}
	named, unknown := r.puller.Head(ctx, r.registry.Repo(t.repo).Tag(t.name))
	switch {
	case unknown != nil:
		return err
	case named.Digest.String() == t.digest.String():
		return nil
	case conflict || fixed.MatchString(text(answer)):
		return &fixedError{error: err, names: named.Digest.String()}
	}
	return err
}
