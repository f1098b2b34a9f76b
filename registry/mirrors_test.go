package registry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

// startWithSet starts a daemon with an image set of some images of a source.
func startWithSet(t *testing.T, source string, images ...string) (*running, string) {
	t.Helper()
	dir := t.TempDir()
	set := config.Sync{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "ws"), Interval: time.Hour}
	writeSet(t, set.ImageSet, source, images...)
	return start(t, func(c *config.Config) { c.Sync = []config.Sync{set} }), set.ImageSet
}

// until asks for a second time and again, until it is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// mirrorOf returns the state of an image set.
func (r *running) mirrorOf(t *testing.T, file string) api.MirrorState {
	t.Helper()
	all, err := r.admin.Mirrors(t.Context())
	must(t, err)
	for _, s := range all {
		if s.ImageSet == file {
			return s
		}
	}
	t.Fatalf("%s is not in %+v", file, all)
	return api.MirrorState{}
}

func TestMirrors_runsOnWithoutItsCaller(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1", "samples/absent:v1")
	before := r.mirrorOf(t, file)
	if before.Last != nil || before.Next.Before(time.Now()) || before.Trouble != nil {
		t.Errorf("before: %+v", before)
	}
	must(t, r.admin.BeginMirror(t.Context(), file))
	until(t, "the run ends", func() bool { return r.mirrorOf(t, file).Last != nil })
	if s := r.mirrorOf(t, file); s.Last.Mirrored != 1 || s.Last.Error == "" || len(s.Last.Failures) != 1 {
		t.Errorf("after: %+v", s.Last)
	}
	report, err := r.admin.MirrorReport(t.Context(), api.MirrorReportRequest{ImageSet: file, Limit: 10})
	must(t, err)
	if report.Mirrored != 1 || len(report.Images) != 1 || report.Images[0].Destination != "samples/docker:v1" || len(report.Failures) != 1 || report.Planned != 2 {
		t.Errorf("the report is %+v", report)
	}
	if report, err = r.admin.MirrorReport(t.Context(), api.MirrorReportRequest{ImageSet: file, After: 1, Limit: 10}); err != nil || len(report.Images) != 0 {
		t.Errorf("the rest of the report: %+v, %v", report.Images, err)
	}
	if !strings.Contains(r.log.String(), `event="mirror began" user=local`) {
		t.Errorf("the audit lacks the run:\n%s", r.log)
	}
}

func TestMirrors_plan(t *testing.T) {
	source := newSample(t)
	r, file := startWithSet(t, source, "samples/docker:v1")
	p, err := r.admin.PlanMirror(t.Context(), file, nil)
	must(t, err)
	if p.Size.Images != 1 || p.Size.Missing == 0 || p.Size.Held != 0 || p.Drift.Sums != (api.MirrorDriftSums{Missing: 1}) ||
		p.Drift.Missing[0].Destination != "samples/docker:v1" || p.Drift.Missing[0].Missing != p.Size.Missing || len(p.Parts) != 1 || len(p.Space) == 0 {
		t.Errorf("before a run: %+v", p)
	}
	if code, _ := r.as(t, "pull", http.MethodGet, "/v2/samples/docker/manifests/v1"); code != http.StatusNotFound {
		t.Errorf("a plan mirrors: %d", code)
	}
	_, err = r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: file}, nil)
	must(t, err)
	writeSet(t, file, source, "samples/oci:v1")
	must(t, r.admin.BeginMirrorPlan(t.Context(), file))
	last := func() *api.MirrorPlan {
		s, err := r.admin.MirrorPlan(t.Context(), file)
		must(t, err)
		if s.Running != nil {
			return nil
		}
		return s.Last
	}
	until(t, "the second plan", func() bool { l := last(); return l != nil && l.Began.After(p.Began) })
	if l := last(); l.Error != nil || l.Drift.Sums != (api.MirrorDriftSums{Missing: 1, Unasked: 1}) || l.Drift.Unasked[0].Destination != "samples/docker:v1" {
		t.Errorf("after a run: %+v %+v", l.Drift, l.Error)
	}
	must(t, os.WriteFile(file, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirorr: {}\n"), 0o600))
	if _, err := r.admin.PlanMirror(t.Context(), file, nil); err == nil {
		t.Error("an image set that cannot be read is planned")
	}
	if l := last(); l.Error == nil || !strings.Contains(l.Error.Problem, "mirror is missing") {
		t.Errorf("the state has %+v", l.Error)
	}
	if s := r.mirrorOf(t, file); s.Trouble == nil || !strings.Contains(s.Trouble.Problem, "mirror is missing") {
		t.Errorf("the list has %+v", s.Trouble)
	}
}

func TestMirrors_stop(t *testing.T) {
	began, end := make(chan bool), make(chan bool)
	var once sync.Once
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(began) })
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(end)
	r, file := startWithSet(t, slow.Listener.Addr().String(), "samples/docker:v1")
	must(t, r.admin.BeginMirror(t.Context(), file))
	<-began
	_, err := r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: file}, nil)
	for _, err := range []error{err, r.admin.BeginMirror(t.Context(), file)} {
		if err == nil || !strings.Contains(err.Error(), "under way") {
			t.Errorf("beside a run another one: %v", err)
		}
	}
	if n := strings.Count(r.log.String(), `event="mirror began"`); n != 1 {
		t.Errorf("the audit has %d runs", n)
	}
	must(t, r.admin.StopMirror(t.Context(), api.MirrorStop{ImageSet: file}))
	until(t, "the run ends", func() bool { return r.mirrorOf(t, file).Running == nil })
	if s := r.mirrorOf(t, file); s.Last != nil {
		t.Errorf("a run that was stopped has a result: %+v", s.Last)
	}
	stopped := make(chan error, 1)
	go func() {
		_, err := r.admin.PlanMirror(t.Context(), file, nil)
		stopped <- err
	}()
	until(t, "the plan begins", func() bool {
		s, err := r.admin.MirrorPlan(t.Context(), file)
		return err == nil && s.Running != nil
	})
	must(t, r.admin.StopMirror(t.Context(), api.MirrorStop{ImageSet: file, Plan: true}))
	var refused *client.Refused
	if err := <-stopped; !errors.As(err, &refused) || refused.Status != http.StatusConflict || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("a plan that was stopped ends with %v", err)
	}
}

// The text of an image set is shown without logins, and nothing else that the configuration names is.
func TestMirrors_text(t *testing.T) {
	const d = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	r, file := startWithSet(t, "quay.io", "org/image@"+d)
	text := "kind: ImageSetConfiguration # by ops@example.com\nhelm:\n  - url: https://me:pa/ss@charts.test/x\n  - url: \"https://me:word2@charts.test\"\n    password: word3\n    # token: word5\n    #- url: {name: x, password: word6}\n" +
		"  - name: quay.io/org/image@" + d + "\n  - name: me:word4@quay.io/org/image@" + d + "\n  - name: quay.io/team/secret-tool:v1\n"
	must(t, os.WriteFile(file, []byte(text), 0o600))
	got, err := r.admin.ImageSet(t.Context(), file)
	must(t, err)
	for _, secret := range []string{"pa/ss", "word2", "word3", "word4", "word5", "word6"} {
		if strings.Contains(got.Text, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	for _, want := range []string{"- name: quay.io/org/image@" + d + "\n", "@charts.test/x\n", "kind: ImageSetConfiguration", "- name: quay.io/team/secret-tool:v1\n"} {
		if !strings.Contains(got.Text, want) {
			t.Errorf("%q is not in\n%s", want, got.Text)
		}
	}
	must(t, os.WriteFile(file, []byte("root:$6$hash:1::\n"), 0o600))
	if got, err := r.admin.ImageSet(t.Context(), file); err == nil {
		t.Errorf("another file is shown: %s", got.Text)
	}
	var refused *client.Refused
	if _, err := r.admin.ImageSet(t.Context(), "/etc/passwd"); !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
		t.Errorf("a file that is not configured: %v", err)
	}
}

// What a run moved is listed, in parts, with what the tags name now.
func TestMirrors_changes(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1", "samples/oci:v1")
	_, err := r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: file}, nil)
	must(t, err)
	past, err := r.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	if len(past) != 1 {
		t.Fatalf("the runs are %+v", past)
	}
	first, err := r.admin.Changes(t.Context(), past[0].ID, api.ChangesRequest{Limit: 1})
	must(t, err)
	if len(first) != 1 || first[0].Repository != "samples/docker" || first[0].Was != "" || first[0].Became == "" || first[0].Now != first[0].Became {
		t.Fatalf("the first change is %+v", first)
	}
	_, err = r.admin.Rollback(t.Context(), past[0].ID, api.RollbackRequest{})
	must(t, err)
	rest, err := r.admin.Changes(t.Context(), past[0].ID, api.ChangesRequest{Repository: first[0].Repository, Tag: first[0].Tag, Limit: 10})
	must(t, err)
	if len(rest) != 1 || rest[0].Repository != "samples/oci" || rest[0].Now != "" {
		t.Errorf("the rest after a rollback is %+v", rest)
	}
	var refused *client.Refused
	if _, err := r.admin.Changes(t.Context(), "other", api.ChangesRequest{Limit: 1}); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("of a run that there is not: %v", err)
	}
	if older, err := r.admin.PastSyncs(t.Context(), api.PastRequest{Limit: 5, After: past[0].ID}); err != nil || len(older) != 0 {
		t.Errorf("before the first run: %+v, %v", older, err)
	}
	all, err := r.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	if older, err := r.admin.PastSyncs(t.Context(), api.PastRequest{Limit: 5, After: all[0].ID}); err != nil || len(older) != 1 || older[0].ID != past[0].ID {
		t.Errorf("before the rollback: %+v, %v", older, err)
	}
}
