package ready

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/release"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// question is what was asked.
type question struct {
	request api.ReadyRequest
	from    *semver.Version // of the cluster; nil: it is to be installed
	version *semver.Version // that is wanted; nil: it is named by its digest
	digest  digest.Digest
	arch    string   // of the release that is wanted; "": it depends on nodes
	nodes   []string // architectures of the nodes; none: all of the release
}

// read reads a question.
func read(q api.ReadyRequest) (question, error) {
	asked := question{request: q}
	if q.Unchanged != nil {
		asked.nodes = q.Architectures
		return asked, nil
	}
	if err := asked.start(); err != nil {
		return asked, err
	}
	if err := asked.readNodes(q.Architectures); err != nil {
		return asked, err
	}
	if d := digest.Digest(q.To[strings.LastIndexByte(q.To, '@')+1:]); d.Validate() == nil {
		asked.digest = d
		return asked, nil
	}
	text := q.To
	if n := strings.LastIndexByte(text, '-'); n > 0 && machine(text[n+1:]) != "" {
		a := machine(text[n+1:])
		if a != graphdata.Multi && asked.arch != "" && asked.arch != a {
			return asked, fmt.Errorf("%s is not for the architectures that are named", text)
		}
		asked.arch, text = a, text[:n]
	}
	v, err := semver.Parse(text)
	if err != nil {
		return asked, hint.New(fmt.Errorf("%q is not a release", q.To), "name one like 4.20.3, 4.20.3-x86_64 or sha256:…")
	}
	asked.version = &v
	return asked, asked.newer(v)
}

// readNodes reads the architectures of the nodes.
func (q *question) readNodes(architectures []string) error {
	for _, a := range architectures {
		switch a = release.Architecture(a); {
		case !ofReleases(a):
			return hint.New(fmt.Errorf("%q is not an architecture of releases", a), "one of amd64, arm64, ppc64le, s390x and multi")
		case a == graphdata.Multi:
			q.arch = a
		case !slices.Contains(q.nodes, a):
			q.nodes = append(q.nodes, a)
		}
	}
	if len(q.nodes) == 1 && q.arch == "" { // as cluster-config chooses
		q.arch = q.nodes[0]
	}
	if len(q.nodes) > 1 {
		q.arch = graphdata.Multi
	}
	return nil
}

// ofReleases reports whether there are releases for an architecture.
func ofReleases(arch string) bool {
	return slices.Contains([]string{graphdata.Multi, "amd64", "arm64", "ppc64le", "s390x"}, arch)
}

// start reads where an upgrade starts.
func (q *question) start() error {
	if q.request.Channel != "" {
		if err := graphdata.CheckChannel(q.request.Channel); err != nil {
			return err
		}
	}
	if q.request.From == "" {
		return nil
	}
	v, err := semver.Parse(q.request.From)
	if err != nil {
		return hint.New(fmt.Errorf("%q is not a version that a cluster runs", q.request.From), "name it like 4.18.12: oc get clusterversion")
	}
	q.from = &v
	return nil
}

// newer returns an error unless a release is an update of the release of the cluster.
func (q *question) newer(to semver.Version) error {
	if q.from == nil || q.from.LT(to) {
		return nil
	}
	return hint.New(fmt.Errorf("%s is no update of %s", to, q.from), "name an older release as the one that the cluster runs")
}

// completed adds to a question what a cluster has told.
func completed(q *api.ReadyRequest) error {
	c := q.Cluster
	if c == nil {
		return nil
	}
	if c.Version == "" {
		return hint.New(fmt.Errorf("the cluster of the export is being installed with %s", c.Updating), "wait until that has completed, and export the cluster again; without --cluster-state the release is judged for an installation")
	}
	if q.From != "" && q.From != c.Version {
		return hint.New(fmt.Errorf("the cluster of the export runs %s, and not %s", c.Version, q.From), "leave --from out")
	}
	q.From = c.Version
	q.Channel = cmp.Or(q.Channel, c.Channel)
	if c.Multi && !slices.Contains(q.Architectures, graphdata.Multi) {
		q.Architectures = append(slices.Clone(q.Architectures), graphdata.Multi)
	}
	return nil
}

// machine returns the architecture in the tag of a release, "" if it is none.
func machine(name string) string {
	if arch := release.Architecture(name); ofReleases(arch) && release.Machine(arch) == name {
		return arch
	}
	return ""
}

// newKeys returns the keys that releases may be signed with: the vendor's, and others.
func newKeys(others []byte) ([]*signature.Keyring, error) {
	vendor, err := signature.VendorKeys()
	if err != nil || len(others) == 0 {
		return []*signature.Keyring{vendor}, err
	}
	more, err := signature.ParseKeys(others)
	if err != nil {
		return nil, hint.New(err, "name a file with armored OpenPGP public keys")
	}
	return []*signature.Keyring{vendor, more}, nil
}

// choose returns the release that is wanted. If it is not here, that is a reason.
func (j *judgement) choose() (r graphdata.Release, ok bool, err error) {
	if j.version != nil && j.arch == "" {
		j.arch = j.runs()
	}
	all := j.fitting()
	switch {
	case len(all) == 1:
		return all[0], true, nil
	case len(all) == 0:
		j.refuse(j.absent())
		return r, false, nil
	}
	var archs []string
	for _, one := range all {
		if !slices.Contains(archs, one.Arch) {
			archs = append(archs, one.Arch)
		}
	}
	if len(archs) > 1 {
		slices.Sort(archs)
		return r, false, hint.New(fmt.Errorf("%s is here for several architectures: %s", j.request.To, strings.Join(archs, ", ")), "name that of the nodes with --arch, such as --arch "+archs[0])
	}
	return r, false, hint.New(errors.New("there are several images of "+j.request.To), "name one: --to "+all[0].Digest.String()+"; or delete the others")
}

// fitting returns the releases that may be meant.
func (j *judgement) fitting() (all []graphdata.Release) {
	for _, r := range j.known.Releases {
		named := r.Digest == j.digest
		if j.version != nil {
			named = r.Version.EQ(*j.version)
		}
		if named && (j.arch == "" || r.Arch == j.arch) {
			all = append(all, r)
		}
	}
	return all
}

// absent is the reason that the release is not here.
func (j *judgement) absent() api.Reason {
	r := api.Reason{Code: "release-absent", Where: j.request.To, Text: "this release is not here", Hint: "mirror it: appliance mirror, or --as-imageset for a medium"}
	arch := j.arch
	if arch != "" {
		r.Text = "this release is not here for " + arch
	}
	if j.version == nil {
		return r
	}
	r.Cure = cureOf(*j.version, cmp.Or(arch, "amd64"), j.request.Channel)
	for _, p := range j.known.Problems {
		if _, tag, ok := strings.Cut(p.Where, ":"); ok && strings.HasPrefix(tag, j.version.String()+"-") {
			r.Text += "; " + p.Where + ": " + p.What
		}
	}
	return r
}

// cureOf is a release as content.
func cureOf(v semver.Version, arch, channel string) *api.Cure {
	if channel == "" {
		channel = fmt.Sprintf("stable-%d.%d", v.Major, v.Minor)
	}
	return &api.Cure{Release: v.String(), Architecture: arch, Channel: channel}
}
