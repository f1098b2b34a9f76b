package mirror

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// ParseDestination splits docker://HOST:PORT/PATH into Options.Registry and Prefix.
func ParseDestination(argument string) (registry, prefix string, err error) {
	registry, prefix, _ = strings.Cut(strings.TrimPrefix(argument, "docker://"), "/")
	prefix = strings.Trim(prefix, "/")
	if i := strings.LastIndex(argument, "@"); i >= 0 && strings.Contains(registry, "@") { // which may be a password's end
		return "", "", hint.New(fmt.Errorf("destination docker://…%s: it has a login in it, which ps and the shell's history show", argument[i:]),
			"log in with podman login, name the file with --authfile, and leave the login out")
	}
	reason := ""
	switch _, err := name.NewRegistry(registry); {
	case registry == "":
		reason = "it names no registry"
	case strings.ContainsAny(prefix, "@:"):
		reason = "it has a tag or a digest, which a destination cannot have"
	case err != nil:
		reason = err.Error()
	case prefix != "":
		if _, err := name.NewRepository(registry + "/" + prefix); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		return "", "", hint.New(fmt.Errorf("destination %s: %s", argument, reason), "for example docker://registry.example.com:8443/path")
	}
	return registry, prefix, nil
}
