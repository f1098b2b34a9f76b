package cluster

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

// view is what the templates print.
type view struct {
	Version      string // minor version, as 4.20
	Release      string // the release as oc reads it; "": it has to be named
	Tag          string
	Machine      string // in the name of an ISO
	Architecture string // in install-config.yaml
	AgentAPI     string
	Cluster      string
	Channel      string
	Registries   []string
	CA           bool     // oc gets CAs
	Trust        bool     // the cluster gets those of the registries
	Marks        []string // lines by which those are recognised
	OnlySets     bool     // oc has to know --idms-file
	Catalogs     bool     // OLM v1
	ZeroTouch    bool
	Updates      string
	Files        []File
	Warnings     []string
}

func (r *renderer) view() view {
	v := view{
		Version: r.Version.String(), Release: r.Release.Spec(r.first().Address), Tag: r.Release.Tag,
		AgentAPI: r.Version.agentConfig(), Cluster: cmp.Or(r.theirs.keys.Metadata.Name, "cluster"), CA: len(r.bundle) > 0,
		Trust: len(r.registryCAs()) > 0, Marks: lastLines(r.registryCAs()), OnlySets: !r.Version.policyFileOption(), Catalogs: r.Version.clusterCatalogs(),
		ZeroTouch: r.ZeroTouch, Files: r.files, Warnings: r.warnings,
		Channel: cmp.Or(r.Release.Channel, "stable-"+r.Version.String()),
	}
	for _, one := range r.Registries {
		v.Registries = append(v.Registries, one.Address)
	}
	v.Machine, v.Architecture = "x86_64", "amd64"
	if _, machine, err := r.Release.version(); err == nil && machine != "multi" {
		v.Machine, v.Architecture = machine, machines[machine]
	}
	if r.Release.Repository == "" && r.Release.Tag != "" {
		if repository := r.mirrors.releaseAt(r.first().Address); repository != "" {
			v.Release = r.first().Address + "/" + repository + ":" + r.Release.Tag
		}
	}
	for _, f := range r.files {
		if strings.HasPrefix(f.Name, "updates/") {
			v.Updates = "updates.sh"
		}
	}
	return v
}

// template prints a template of its name.
func (r *renderer) template(name string) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"quote": quote}).ParseFS(templates, "templates/"+name)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := t.ExecuteTemplate(&text, name, r.view()); err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return text.Bytes(), nil
}

// quote quotes a word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// scripts makes the scripts and README.txt, which lists what was made before.
func (r *renderer) scripts() error {
	names := []string{"install.sh", "apply.sh"}
	if r.view().Updates != "" {
		names = append(names, "updates.sh")
	}
	for _, name := range names {
		text, err := r.template(name)
		if err != nil {
			return err
		}
		r.files = append(r.files, File{Name: name, Data: text, Executable: true})
	}
	slices.SortFunc(r.files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	text, err := r.template("README.txt")
	if err == nil {
		r.add("README.txt", text)
	}
	return err
}

// ReleaseOf returns the release that install.sh of a directory installs, "" if it names none.
func ReleaseOf(script []byte) string {
	for line := range strings.Lines(string(script)) {
		if rest, found := strings.CutPrefix(line, "release=${RELEASE:-'"); found {
			name, _, _ := strings.Cut(rest, "'")
			return name
		}
	}
	return ""
}
