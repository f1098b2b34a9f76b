package image

import "strings"

// NamesThrough returns what the images of an upstream are called, of which url is the address and
// prefix the path at the registry that pulls through: the name there, and then, if that is a mirror in
// turn, such as another appliance, the name of the registry that it has below its own.
func NamesThrough(prefix, url string) []string {
	_, there, _ := strings.Cut(url, "://")
	host, path, _ := strings.Cut(strings.TrimRight(there, "/"), "/")
	switch host {
	case "registry-1.docker.io", "index.docker.io":
		host = "docker.io"
	}
	name := strings.TrimRight(host+"/"+path, "/")
	first, _, _ := strings.Cut(prefix, "/")
	if strings.Contains(first, ".") && path != "" && strings.HasSuffix("/"+path, "/"+prefix) {
		return []string{name, prefix}
	}
	return []string{name}
}
