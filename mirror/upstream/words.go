package upstream

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
)

// words are what hints depend on: how the client is configured.
type words struct {
	serving  bool   // by a daemon's configuration, not by flags
	authFile string // "": none is named
	proxied  bool   // through a proxy that is named, not that of the environment
}

// toLogIn returns how to give credentials.
func (e *readError) toLogIn() string {
	switch {
	case !e.words.serving:
		return fmt.Sprintf("podman login %s, or name a file that has them with --authfile", e.login())
	case e.words.authFile == "":
		return fmt.Sprintf("podman login --authfile FILE %s, and name FILE as authFile of the upstream in config.yaml", e.login())
	}
	return fmt.Sprintf("podman login --authfile %s %s; the file is read again by itself", e.words.authFile, e.login())
}

// login returns the registry's name for podman login.
func (e *readError) login() string {
	if e.Registry == name.DefaultRegistry {
		return "docker.io"
	}
	return e.Registry
}
