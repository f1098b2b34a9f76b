package upstream

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
)

// words are what hints depend on: how the client is configured.
type words struct {
	serving  bool   // by a daemon's configuration, not by flags
	authFile string // "": none is named
	plain    bool   // without TLS
	proxied  bool   // through a proxy that is named, not that of the environment
}

// certDir returns where a client's certificate is named.
func (w words) certDir() string {
	if w.serving {
		return "certDir of the upstream in config.yaml"
	}
	return "the directory of its certificates, as --src-cert-dir or /etc/containers/certs.d"
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
