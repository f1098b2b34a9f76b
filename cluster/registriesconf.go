package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
)

// location is a table [[registry]] of registries.conf.
type location struct {
	source  string
	mirrors []pullFrom
}

// pullFrom is a mirror of a location.
type pullFrom struct {
	location        string
	byDigest, byTag bool
}

// locations joins the entries for digests and those for tags.
func locations(digests, tags []entry) (all []location) {
	put := func(e entry, mark func(*pullFrom)) {
		at := slices.IndexFunc(all, func(l location) bool { return l.source == e.source })
		if at < 0 {
			at, all = len(all), append(all, location{source: e.source})
		}
		l := &all[at]
		next := 0 // where a mirror goes that is not there yet: behind the one before it
		for _, mirror := range e.mirrors {
			n := slices.IndexFunc(l.mirrors, func(p pullFrom) bool { return p.location == mirror })
			if n < 0 {
				n, l.mirrors = next, slices.Insert(l.mirrors, next, pullFrom{location: mirror})
			}
			mark(&l.mirrors[n])
			next = n + 1
		}
	}
	for _, e := range digests {
		put(e, func(p *pullFrom) { p.byDigest = true })
	}
	for _, e := range tags {
		put(e, func(p *pullFrom) { p.byTag = true })
	}
	slices.SortFunc(all, func(a, b location) int { return bytes.Compare([]byte(a.source), []byte(b.source)) })
	return all
}

// registriesConf writes locations as registries.conf of version 2, which each podman, skopeo and
// CRI-O since RHEL 8 reads. Where all mirrors are for digests the switch of the table is used,
// which the oldest know. A source that is blocked is not asked itself.
func registriesConf(head string, all []location, blocked func(source string) bool) []byte {
	var text bytes.Buffer
	text.WriteString(head)
	for _, l := range all {
		fmt.Fprintf(&text, "\n[[registry]]\nlocation = %s\n", strconv.Quote(l.source))
		if blocked(l.source) {
			text.WriteString("blocked = true\n")
		}
		digestsOnly := !slices.ContainsFunc(l.mirrors, func(p pullFrom) bool { return p.byTag })
		if digestsOnly {
			text.WriteString("mirror-by-digest-only = true\n")
		}
		for _, p := range l.mirrors {
			fmt.Fprintf(&text, "\n[[registry.mirror]]\nlocation = %s\n", strconv.Quote(p.location))
			switch {
			case digestsOnly || p.byDigest && p.byTag:
			case p.byDigest:
				text.WriteString("pull-from-mirror = \"digest-only\"\n")
			default:
				text.WriteString("pull-from-mirror = \"tag-only\"\n")
			}
		}
	}
	return text.Bytes()
}

// forHosts makes the registries.conf for a host with podman.
func (r *renderer) forHosts() error {
	var digests, tags []entry
	for _, s := range r.mirrors.digests {
		digests = join(digests, s.entries)
	}
	for _, s := range r.mirrors.tags {
		tags = join(tags, s.entries)
	}
	head := "# For podman, skopeo and buildah on any host: put this file into /etc/containers/registries.conf.d/.\n" +
		"# Of the entries that fit a name the longest counts.\n"
	for _, one := range r.Registries {
		if one.CA != nil {
			head += "# CA: ca-bundle.pem, as /etc/containers/certs.d/" + one.Address + "/ca.crt\n"
		}
	}
	r.add("registries.conf", registriesConf(head, locations(digests, tags), r.never))
	return nil
}

func join(all, more []entry) []entry {
	for _, e := range more {
		for _, mirror := range e.mirrors {
			all = add(all, e.source, mirror)
		}
	}
	return all
}

// zeroTouch makes the files about the mirror of zero-touch manifests.
func (r *renderer) zeroTouch() error {
	if !r.ZeroTouch {
		return nil
	}
	const head = "# For zero-touch manifests: beside the directory cluster-manifests, as mirror/registries.conf.\n"
	all := slices.Clone(r.mirrors.install)
	never := map[string]bool{}
	for _, s := range r.otherSources() {
		all, never[s.Source] = append(all, entry{s.Source, s.Mirrors}), s.Policy == neverContact
	}
	r.add("mirror/registries.conf", registriesConf(head, locations(all, nil), func(source string) bool { return r.never(source) || never[source] }))
	if len(r.bundle) > 0 {
		r.add("mirror/ca-bundle.crt", r.bundle)
	}
	return nil
}
