package registry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/jobs"
)

const (
	// maxReport bounds a report that is shown, in bytes: one of a vendor's whole catalog has 60 MB.
	maxReport = 256 << 20
	// maxListed bounds the failures and warnings of a report that are shown.
	maxListed = 10_000
	// listedOfPlan bounds each list of a plan.
	listedOfPlan = 500
)

// planRunner plans one image set.
type planRunner = jobs.Runner[api.MirrorRequest, api.MirrorProgress, api.MirrorPlan]

// mirrors is what the control API knows of the image sets of the configuration.
type mirrors struct{ d *daemon }

// List implements admin.Mirrors.
func (m mirrors) List(ctx context.Context) []api.MirrorState {
	all := []api.MirrorState{}
	for _, s := range m.d.mirrors {
		state := s.state(ctx)
		state.Trouble = troubleOf(s.check())
		all = append(all, state)
	}
	return all
}

func troubleOf(err error) *api.Trouble {
	if err == nil {
		return nil
	}
	return &api.Trouble{Problem: err.Error(), Hint: hint.Of(err)}
}

// named returns the image set with a file.
func (m mirrors) named(file string) (*scheduled, error) {
	i := slices.IndexFunc(m.d.mirrors, func(s *scheduled) bool { return s.set.ImageSet == file })
	if i < 0 {
		return nil, admin.UnknownImageSet(file, m.d.several())
	}
	return m.d.mirrors[i], nil
}

// Job implements admin.Mirrors.
func (m mirrors) Job(file string) (*mirrorRunner, error) {
	s, err := m.named(file)
	if err != nil {
		return nil, err
	}
	return s.runner, nil
}

// Plan implements admin.Mirrors.
func (m mirrors) Plan(file string) (*planRunner, error) {
	s, err := m.named(file)
	if err != nil {
		return nil, err
	}
	return s.planner, nil
}

// LastPlan implements admin.Mirrors.
func (m mirrors) LastPlan(ctx context.Context, file string) (api.MirrorPlanState, error) {
	s, err := m.named(file)
	if err != nil {
		return api.MirrorPlanState{}, err
	}
	running, last := s.planning.look(ctx)
	return api.MirrorPlanState{Running: running, Last: last}, nil
}

// Stop implements admin.Mirrors.
func (m mirrors) Stop(ctx context.Context, q api.MirrorStop) (running bool, err error) {
	s, err := m.named(q.ImageSet)
	if err != nil {
		return false, err
	}
	if q.Plan {
		return s.planning.stop(ctx, s.planner.Stop), nil
	}
	return s.runs.stop(ctx, s.runner.Stop), nil
}

var (
	// loginInURL is a login in the address of a Helm repository or of an image.
	loginInURL = regexp.MustCompile(`[^\s"'/]+(?:/[^\s"']*)?@([^\s"'@]*)`)
	// secretKey is a key whose value is not for others, also in a comment or between braces. What follows
	// the colon of a key is blank, or the key is quoted.
	secretKey = regexp.MustCompile(`(?im)([\w.-]*(?:password|passwd|secret|token|credential)[\w.-]*(?:["'][ \t]*:|[ \t]*:(?:[ \t]|$))).*$`)
)

// Text implements admin.Mirrors. What is no image set is not shown, whatever the configuration names.
func (m mirrors) Text(file string) (api.ImageSetFile, error) {
	s, err := m.named(file)
	if err != nil {
		return api.ImageSetFile{}, err
	}
	data, err := regular.ReadFile(s.set.ImageSet)
	if err != nil {
		return api.ImageSetFile{}, s.ofHost(fmt.Errorf("read the image set: %w", err))
	}
	var kind struct{ Kind string }
	if err := yaml.Unmarshal(data, &kind); err != nil || !strings.HasSuffix(kind.Kind, "ImageSetConfiguration") {
		return api.ImageSetFile{}, hint.New(fmt.Errorf("%s is not shown: it is not an ImageSetConfiguration", file), "see sync in config.yaml")
	}
	return api.ImageSetFile{Text: withoutLogins(string(data))}, nil
}

// withoutLogins returns the text of an image set without what may be a login. The digest of an image is none.
func withoutLogins(text string) string {
	text = secretKey.ReplaceAllString(text, "$1…")
	return loginInURL.ReplaceAllStringFunc(text, func(s string) string {
		if _, after, _ := strings.Cut(s, "@"); digest.Digest(after).Validate() == nil && strings.Count(s, "@") == 1 {
			return s
		}
		return "…" + s[strings.LastIndexByte(s, '@'):]
	})
}

// Report implements admin.Mirrors.
func (m mirrors) Report(q api.MirrorReportRequest) (a api.MirrorReport, err error) {
	s, err := m.named(q.ImageSet)
	if err != nil {
		return a, err
	}
	last := s.last.Get()
	if last == nil || last.Report == "" {
		return a, admin.NoReport(q.ImageSet)
	}
	r, err := mirror.ReadReport(last.Report, maxReport)
	if err != nil && s.at != "" && last.Host != "" && last.Host != s.at {
		return a, hint.New(fmt.Errorf("the report is a file of host %s, which ran the image set last; this is host %s: %w", last.Host, s.at, err), "ask the daemon of that host")
	}
	if err != nil {
		return a, hint.New(err, "it is in the workspace of the image set, on the host of the registry")
	}
	a = api.MirrorReport{File: r.File, Began: r.Started, Planned: r.Planned, Mirrored: len(r.Mirrored), Failures: failures(r.Failures, maxListed),
		Warnings: append([]string{}, r.Warnings[:min(len(r.Warnings), maxListed)]...), Images: []api.MirrorImage{}}
	from := min(q.After, len(r.Mirrored))
	for _, i := range r.Mirrored[from:min(from+q.Limit, len(r.Mirrored))] {
		a.Images = append(a.Images, api.MirrorImage{Type: i.Type.Class().Label, Origin: i.Origin, Destination: i.Repository + ":" + i.Tag, Digest: i.Digest.String()})
	}
	return a, nil
}

// failures returns the first n of some failures.
func failures(all []plan.Failure, n int) []api.MirrorFailure {
	told := []api.MirrorFailure{}
	for _, f := range all[:min(len(all), n)] {
		told = append(told, api.MirrorFailure{Image: f.Image.Origin, Error: f.Error})
	}
	return told
}

// Missed implements admin.Mirrors.
func (m mirrors) Missed(ctx context.Context, all []api.Miss) (string, error) {
	origins, err := documents.Origins(ctx, m.d.store.Tags)
	if err != nil {
		return "", err
	}
	var missed []mirror.Missed
	for _, one := range all {
		missed = append(missed, mirror.Missed{Repository: one.Repository, Reference: one.Reference})
	}
	var upstreams []mirror.Upstream
	for _, u := range (upstreamAdmin{m.d}).List() {
		upstreams = append(upstreams, mirror.Upstream{Prefix: u.Prefix, URL: u.URL})
	}
	text, err := mirror.MissedImageSet(missed, upstreams, origins)
	return string(text), err
}

// plan compares the image set with what is held. Nothing is mirrored.
func (s *scheduled) plan(ctx context.Context, _ api.MirrorRequest, progress func(api.MirrorProgress)) (api.MirrorPlan, error) {
	now, err := s.takeTurn(ctx, progress)
	if err != nil {
		return api.MirrorPlan{}, err
	}
	defer func() { <-s.turn }()
	f := &following{now: now, tell: progress}
	var drift *mirror.Drift
	err = s.opened(ctx, f.event, func(ctx context.Context, o mirror.Options) error {
		drift, err = mirror.FindDrift(ctx, o, heldOnly{s})
		return err
	})
	if err != nil && ctx.Err() != nil {
		return api.MirrorPlan{}, err
	}
	p := api.MirrorPlan{Error: troubleOf(err)}
	if err == nil {
		p = s.planOf(drift)
	}
	p.Began, p.Ended = now.Began, time.Now()
	s.keepPlan(&p)
	return p, err
}

// planOf returns a plan as the control API has it.
func (s *scheduled) planOf(d *mirror.Drift) api.MirrorPlan {
	p := d.Plan
	told := api.MirrorPlan{Size: api.MirrorSize{Images: len(p.Images), Bytes: p.Bytes, Held: p.Held, Missing: p.Missing},
		Parts: parts(p), Space: []api.MirrorSpace{}, Failures: failures(p.Failures, listedOfPlan), Failed: len(p.Failures),
		Warnings: append([]string{}, p.Warnings[:min(len(p.Warnings), listedOfPlan)]...)}
	for _, room := range p.Space {
		told.Space = append(told.Space, api.MirrorSpace{Where: room.Where, Needs: room.Needs, Free: room.Free})
	}
	sizes := map[string]*plan.Image{}
	for _, i := range p.Images {
		sizes[i.Repository+":"+i.Tag] = i
	}
	list := func(all []mirror.Drifted) []api.MirrorImage {
		some := []api.MirrorImage{}
		for _, i := range all[:min(len(all), listedOfPlan)] {
			image := api.MirrorImage{Type: i.Type.Class().Label, Origin: i.Origin, Digest: i.Digest.String(), Was: i.Was.String(),
				Destination: strings.TrimPrefix(i.Destination, s.host+"/")}
			if of := sizes[image.Destination]; of != nil {
				size := plan.SizeOf([]*plan.Image{of}, p.There)
				image.Bytes, image.Missing = size.Bytes, size.Missing
			}
			some = append(some, image)
		}
		return some
	}
	told.Drift = api.MirrorDrift{Missing: list(d.Missing), Changed: list(d.Changed), Unasked: list(d.Unasked),
		Sums: api.MirrorDriftSums{Missing: len(d.Missing), Changed: len(d.Changed), Unasked: len(d.Unasked)}}
	return told
}

// parts returns the sizes of a plan by kind of image, and by catalog.
func parts(p *plan.Plan) []api.MirrorSize {
	kinds := map[string][]*plan.Image{}
	for _, i := range p.Images {
		kinds[i.Type.Class().Label] = append(kinds[i.Type.Class().Label], i)
	}
	all := []api.MirrorSize{}
	add := func(name string, s plan.Size) {
		all = append(all, api.MirrorSize{Name: name, Images: s.Images, Bytes: s.Bytes, Held: s.Held, Missing: s.Missing})
	}
	for name, images := range kinds {
		add(name, plan.SizeOf(images, p.There))
	}
	slices.SortFunc(all, func(a, b api.MirrorSize) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range p.Catalogs {
		add(c.Catalog, c.Size)
	}
	return all
}

// heldOnly reads the store for a comparison, which deletes nothing.
type heldOnly struct{ s *scheduled }

// Manifest implements mirror.Pruner.
func (h heldOnly) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	return h.s.held(ctx, repo, ref)
}

// Blob implements mirror.Pruner.
func (h heldOnly) Blob(context.Context, string, digest.Digest) (io.ReadCloser, int64, error) {
	return nil, 0, http.ErrNotSupported
}

// Delete implements mirror.Pruner.
func (h heldOnly) Delete(context.Context, string, string) error { return http.ErrNotSupported }
