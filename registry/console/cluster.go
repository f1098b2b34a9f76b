package console

import (
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// architectures are the choices of a release, as cluster-config takes them.
func architectures() []string { return []string{"x86_64", "aarch64", "ppc64le", "s390x", "multi"} }

// release is a version as cluster-config takes it: it becomes part of a command that people copy.
var release = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,3}(\.[0-9A-Za-z.-]{1,40})?$`)

// clusterPage has the cluster resources of what the user may pull, and the command that writes the rest.
type clusterPage struct {
	Files         []api.Resource
	Version, Arch string
	Architectures []string
	Error         *problem // of the version
	Command       string
}

func (v *visit) cluster() error {
	files, err := v.c.api.Resources(v.r.Context())
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	p := clusterPage{Files: files, Version: strings.TrimSpace(q.Get("version")), Arch: q.Get("arch"), Architectures: architectures()}
	p.Command = "appliance cluster-config docker://" + v.c.Address + " --pull-secret pull-secret.json --dir cluster"
	if p.Version != "" && !release.MatchString(p.Version) {
		p.Error = &problem{v.c.views.text("cluster.version.wrong"), v.c.views.text("cluster.version.wrong.hint")}
	} else if p.Version != "" {
		p.Command += " --version " + p.Version
	}
	if slices.Contains(p.Architectures, p.Arch) {
		p.Command += " --arch " + p.Arch
	}
	return v.show("cluster", "cluster", "cluster.title", p)
}

// clusterFile sends one of the files for a browser to save.
func (v *visit) clusterFile() error {
	files, err := v.c.api.Resources(v.r.Context())
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name == v.r.PathValue("name") {
			return v.send(f.Name, f.Data)
		}
	}
	return v.notFound()
}

// send sends a text for a browser to save.
func (v *visit) send(name, text string) error {
	v.w.Header().Set("Content-Type", "application/octet-stream")
	v.w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write([]byte(text)) // the client notices an error
	return nil
}
