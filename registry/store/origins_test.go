package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// mirror commits a run that sets a tag of a/b, with an origin.
func (f *fixture) mirror(tag string, d digest.Digest, origin, about string) string {
	f.t.Helper()
	before := f.origins()
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	f.must(run.Origins(f.ctx, map[string]map[string]map[string]json.RawMessage{"a/b": {tag: {origin: json.RawMessage(about)}}}))
	f.must(run.Tag(f.ctx, map[string]map[string]digest.Digest{"a/b": {tag: d}}))
	if now := f.origins(); now != before {
		f.t.Errorf("before the commit there is %s", now)
	}
	f.must(run.Commit(f.ctx))
	return run.ID()
}

// origins returns what counts, a line for each.
func (f *fixture) origins() string {
	f.t.Helper()
	var lines []string
	var last Origin
	for { // one at a time
		some, err := f.Tags.Origins(f.ctx, last, 1)
		f.must(err)
		if len(some) == 0 {
			return strings.Join(lines, "\n")
		}
		last = some[0]
		lines = append(lines, fmt.Sprintf("%s:%s %s %s", last.Repository, last.Tag, last.Origin, last.About))
	}
}

func (f *fixture) wantOrigins(lines ...string) {
	f.t.Helper()
	if got := f.origins(); got != strings.Join(lines, "\n") {
		f.t.Errorf("the origins are\n%s\nwant\n%s", got, strings.Join(lines, "\n"))
	}
}

func TestTags_Origins_followTheTags(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("a/b", "one"), f.pushImage("a/b", "two")
	f.mirror("v1", one.Digest, "quay.io/a/b:v1", `{"n":1}`)
	f.wantOrigins(`a/b:v1 quay.io/a/b:v1 {"n":1}`)
	f.mirror("v1", one.Digest, "quay.io/other/b:v1", `{"n":2}`)
	both := []string{`a/b:v1 quay.io/a/b:v1 {"n":1}`, `a/b:v1 quay.io/other/b:v1 {"n":2}`}
	f.wantOrigins(both...)

	moved := f.mirror("v1", two.Digest, "quay.io/a/b:v1", `{"n":3}`)
	f.wantOrigins(`a/b:v1 quay.io/a/b:v1 {"n":3}`)
	back, err := f.Runs.Rollback(f.ctx, moved)
	f.must(err)
	f.wantOrigins(both...)
	_, err = f.Runs.Rollback(f.ctx, back.ID)
	f.must(err)
	f.wantOrigins(`a/b:v1 quay.io/a/b:v1 {"n":3}`)
	f.reopen()
	f.must(f.Manifests.Delete(f.ctx, "a/b", two.Digest))
	f.wantOrigins()
	if n := f.count(`SELECT count(*) FROM origins`); n != 2 {
		t.Errorf("%d rows, want those of the manifest that is there", n)
	}
	f.must(f.Manifests.Delete(f.ctx, "a/b", one.Digest))
	if n := f.count(`SELECT (SELECT count(*) FROM origins) + (SELECT count(*) FROM run_origins)`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	f.mustBeClean()
}

// Pages of any size have each origin once, in order, of tags in several repositories.
func TestTags_Origins_pages(t *testing.T) {
	f := newFixture(t)
	var want []string
	for _, repo := range []string{"a", "a/b", "b"} {
		d := f.pushImage(repo, repo).Digest
		run, err := f.Runs.Begin(f.ctx, "sync")
		f.must(err)
		tags, origins := map[string]digest.Digest{}, map[string]map[string]json.RawMessage{}
		for _, tag := range []string{"v1", "v10", "v2"} {
			tags[tag], origins[tag] = d, map[string]json.RawMessage{"quay.io/x": json.RawMessage(`{}`), "quay.io/y": json.RawMessage(`{}`)}
			want = append(want, repo+":"+tag+" quay.io/x", repo+":"+tag+" quay.io/y")
		}
		f.must(run.Origins(f.ctx, map[string]map[string]map[string]json.RawMessage{repo: origins}))
		f.must(run.Tag(f.ctx, map[string]map[string]digest.Digest{repo: tags}))
		f.must(run.Commit(f.ctx))
	}
	for size := 1; size <= len(want)+1; size++ {
		var got []string
		for last := (Origin{}); ; {
			some, err := f.Tags.Origins(f.ctx, last, size)
			f.must(err)
			for _, o := range some {
				got = append(got, o.Repository+":"+o.Tag+" "+o.Origin)
			}
			if len(some) < size {
				break
			}
			last = some[len(some)-1]
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("in pages of %d: %v", size, got)
		}
	}
}

func TestTags_Origins_keepTheirTime(t *testing.T) {
	f := newFixture(t)
	one := f.pushImage("a/b", "one")
	recorded := func() time.Time {
		t.Helper()
		all, err := f.Tags.Origins(f.ctx, Origin{}, 10)
		f.must(err)
		return all[0].Recorded
	}
	f.mirror("v1", one.Digest, "quay.io/a/b:v1", `{"n":1}`)
	before := recorded()
	f.clock.add(time.Hour)
	f.mirror("v1", one.Digest, "quay.io/a/b:v1", `{"n":1}`)
	if !recorded().Equal(before) {
		t.Error("nothing is new, and the time is")
	}
	f.mirror("v1", one.Digest, "quay.io/a/b:v1", `{"n":2}`)
	if !recorded().Equal(before.Add(time.Hour)) {
		t.Error("what is new has the time of before")
	}
}

func TestRun_Origins_refused(t *testing.T) {
	f := newFixture(t)
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	for name, o := range map[string]runOrigin{
		"no repository": {"", "v1", "quay.io/a", json.RawMessage(`{}`)},
		"no tag":        {"a/b", "", "quay.io/a", json.RawMessage(`{}`)},
		"no origin":     {"a/b", "v1", "", json.RawMessage(`{}`)},
		"no JSON":       {"a/b", "v1", "quay.io/a", json.RawMessage(`{`)},
		"too long":      {"a/b", "v1", strings.Repeat("a", maxOrigin+1), json.RawMessage(`{}`)},
		"too much":      {"a/b", "v1", "quay.io/a", json.RawMessage(`"` + strings.Repeat("a", maxAbout) + `"`)},
	} {
		err := run.Origins(f.ctx, map[string]map[string]map[string]json.RawMessage{o.repo: {o.tag: {o.origin: o.about}}})
		if err == nil {
			t.Errorf("%s is staged", name)
		}
	}
	f.must(run.Origins(f.ctx, map[string]map[string]map[string]json.RawMessage{"a/b": {"untagged": {"quay.io/a": json.RawMessage(`{}`)}}}))
	f.must(run.Abort(f.ctx))
	if err := run.Origins(f.ctx, nil); err != nil {
		t.Error(err)
	}
	if n := f.count(`SELECT count(*) FROM run_origins`); n != 0 {
		t.Errorf("%d rows are left of an aborted run", n)
	}
	if err := run.Origins(f.ctx, map[string]map[string]map[string]json.RawMessage{"a/b": {"v1": {"x": json.RawMessage(`{}`)}}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("after it: %v", err)
	}
}

func TestTags_Origins_plan_SQLite(t *testing.T) {
	f := newFixture(t)
	if plan := f.explain(restOfOrigins, "a", "v1", "", 1); !strings.Contains(plan, "SEARCH t USING PRIMARY KEY (repository=? AND name>?)") {
		t.Errorf("a page reads the tags before it:\n%s", plan)
	}
}
