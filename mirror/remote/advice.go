package remote

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// quota is in the texts of registries whose project or organization is full: Harbor, Quay, GitLab.
var quota = regexp.MustCompile(`(?i)\bquota|exceed the configured|storage limit|size limit`)

// advice is what to do about an error of the registry or of reaching it.
func (r *Run) advice(err error) string {
	at := r.registry.RegistryStr()
	var answer *transport.Error
	if next := hint.Of(err); next != "" {
		return next
	}
	if !errors.As(err, &answer) {
		return "check that it is reached and trusted: skopeo list-tags docker://" + at + "/REPOSITORY"
	}
	switch {
	case answer.StatusCode == http.StatusTooManyRequests:
		return "it takes fewer requests than there are: run the same command later, or ask for a higher limit"
	case answer.StatusCode == http.StatusInsufficientStorage || answer.StatusCode < 500 && quota.MatchString(text(answer)):
		return "it has no room left there: free some, or have the quota raised, and run the same command again"
	case answer.StatusCode == http.StatusUnauthorized:
		return "log in first: podman login " + at
	case answer.StatusCode == http.StatusForbidden:
		return "the user may not write there: podman login " + at + " as a user with that right"
	case answer.StatusCode == http.StatusRequestEntityTooLarge:
		return "raise the largest body that the registry, or the proxy in front of it, takes"
	case has(answer, transport.NameUnknownErrorCode):
		return "it creates no repository by a push: create the repository there first"
	case has(answer, transport.BlobUploadUnknownErrorCode):
		return "it forgets uploads: servers behind one name need the same storage and the same secret (distribution: http.secret)"
	case answer.StatusCode >= http.StatusInternalServerError:
		return "the registry, or the proxy in front of it, failed: its log has the reason; then run the same command again"
	}
	return "the registry refused it: its log has the reason"
}

// has reports whether an answer has one of some error codes.
func has(answer *transport.Error, codes ...transport.ErrorCode) bool {
	return slices.ContainsFunc(answer.Errors, func(d transport.Diagnostic) bool { return slices.Contains(codes, d.Code) })
}

// text is what an answer says.
func text(answer *transport.Error) string {
	parts := []string{answer.Error()}
	for _, d := range answer.Errors {
		parts = append(parts, string(d.Code), d.Message)
	}
	return strings.Join(parts, " ")
}
