package adopt

import (
	"slices"
	"strings"
)

// Parts are the names by which podman has what is of a mirror-registry.
type Parts struct {
	Pods, Containers, Secrets, Volumes, Images []string
}

// PartsOf returns what a unit of a mirror-registry 2.x has podman make, or the Quadlet file of a 3.
func PartsOf(text string) (p Parts) {
	if q := parseQuadlet(text); q.image != "" {
		p.Images, p.Containers = []string{q.image}, []string{"systemd-quay"} // as podman's generator names it
		if q.data != "" && !strings.HasPrefix(q.data, "/") {
			p.Volumes = []string{q.data}
		}
		return p
	}
	words := execStart(text)
	pod := slices.Contains(words, "create")
	for i, word := range words {
		flag, value, joined := strings.Cut(word, "=")
		if !joined && i+1 < len(words) {
			value = words[i+1]
		}
		switch {
		case flag == "--name" && pod:
			p.Pods = append(p.Pods, value)
		case flag == "--name":
			p.Containers = append(p.Containers, value)
		case flag == "--infra-image":
			p.Images = append(p.Images, value)
		case flag == "--secret":
			name, _, _ := strings.Cut(value, ",")
			p.Secrets = append(p.Secrets, name)
		}
	}
	if !pod && len(words) > 0 {
		p.Images = append(p.Images, words[len(words)-1])
	}
	mounted := volumesOf(text)
	for _, at := range []string{"/datastorage", "/sqlite"} { // others are its user's
		if source := mounted[at]; source != "" && !strings.HasPrefix(source, "/") {
			p.Volumes = append(p.Volumes, source)
		}
	}
	return p
}

// Add adds the parts of another unit. What both name is named once.
func (p *Parts) Add(other Parts) {
	add := func(names *[]string, more []string) {
		for _, name := range more {
			if !slices.Contains(*names, name) {
				*names = append(*names, name)
			}
		}
	}
	add(&p.Pods, other.Pods)
	add(&p.Containers, other.Containers)
	add(&p.Secrets, other.Secrets)
	add(&p.Volumes, other.Volumes)
	add(&p.Images, other.Images)
}

// execStart returns the words of the command that a unit starts.
func execStart(text string) []string {
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok {
			return strings.Fields(command)
		}
	}
	return nil
}
