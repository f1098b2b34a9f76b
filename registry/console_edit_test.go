package registry_test

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

var (
	textOfEditor = regexp.MustCompile(`(?s)<textarea id="text"[^>]*>\n(.*?)</textarea>`)
	inputOfForm  = regexp.MustCompile(`<input type="(?:text|hidden)" name="([^"]+)" value="([^"]*)"`)
	checkedInput = regexp.MustCompile(`<input [^>]*type="checkbox"[^>]* name="([^"]+)" value="([^"]*)" checked`)
)

// fields returns what a browser sends of the editor's form, and the text in it.
func fields(t *testing.T, body string) (form url.Values, text string) {
	t.Helper()
	form = url.Values{}
	for _, found := range append(inputOfForm.FindAllStringSubmatch(body, -1), checkedInput.FindAllStringSubmatch(body, -1)...) {
		form.Add(html.UnescapeString(found[1]), html.UnescapeString(found[2]))
	}
	found := textOfEditor.FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("there is no editor in\n%s", body)
	}
	text = html.UnescapeString(found[1])
	form.Set("text", strings.ReplaceAll(text, "\n", "\r\n"))
	return form, text
}

// editor is the page of an image set that is edited.
type editor struct {
	*surfer
	body string
}

// press presses a button of the form, with some fields filled.
func (e *editor) press(t *testing.T, do string, fill url.Values) (text string) {
	t.Helper()
	form, _ := fields(t, e.body)
	maps.Copy(form, fill)
	form.Set("do", do)
	code, _, body := e.post(t, "/sync/edit", form)
	if code != http.StatusOK {
		t.Fatalf("%s: %d\n%s", do, code, body)
	}
	e.body = body
	_, text = fields(t, body)
	return text
}

func TestConsole_edit(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1")
	text := "# of the plant\n" + emptySet
	must(t, os.WriteFile(file, []byte(text), 0o600))
	s := r.logIn(t, "admin")
	e := &editor{s, s.shows(t, "/sync/edit?file="+url.QueryEscape(file), 200, "Edit set.yaml", "# of the plant", "valid image set", "sudo install -m 0644 set.yaml "+file)}
	for _, step := range []struct {
		do         string
		fill       url.Values
		has, lacks string
	}{
		{"apply", url.Values{"new:mirror.platform.channels:name": {"stable-4.18"}, "new:mirror.platform.channels:minVersion": {"4.18.1"}}, "    channels:\n      - name: stable-4.18\n        minVersion: 4.18.1\n", "{}"},
		{"apply", url.Values{"at:mirror.platform.channels[0].maxVersion": {"4.18.5"}, "on:mirror.platform.channels[0].shortestPath": {"true"}}, "        maxVersion: 4.18.5\n        shortestPath: true\n", ""},
		{"apply", url.Values{"list:mirror.platform.architectures": {"", "amd64", "arm64"}, "on:mirror.platform.graph": {"true"}}, "    graph: true\n    architectures: [amd64, arm64]\n", ""},
		{"apply", url.Values{"list:mirror.platform.architectures": {"", "arm64"}}, "    architectures: [arm64]\n", "amd64"},
		{"apply", url.Values{"list:mirror.platform.architectures": {""}}, "", "architectures"},
		{"apply", url.Values{"new:mirror.operators:catalog": {"quay.io/org/index:v1"}}, "  operators:\n    - catalog: quay.io/org/index:v1\n", ""},
		{"apply", url.Values{"new:mirror.operators[0].packages:name": {"web-terminal"}}, "      packages:\n        - name: web-terminal\n", ""},
		{"apply", url.Values{"new:mirror.operators[0].packages:name": {"nfd"}, "new:mirror.operators[0].packages:channel": {"stable"}, "new:mirror.operators[0].packages:minVersion": {"1.0.0"}}, "        - name: nfd\n          channels:\n            - name: stable\n              minVersion: 1.0.0\n", ""},
		{"apply", url.Values{"new:mirror.operators[0].packages[1].channels:name": {"fast"}}, "            - name: fast\n", ""},
		{"apply", url.Values{"at:mirror.operators[0].packages[0].minVersion": {"1.2.0"}}, "        - name: web-terminal\n          minVersion: 1.2.0\n", ""},
		{"remove mirror.operators[0].packages[1]", nil, "web-terminal", "nfd"},
		{"apply", url.Values{"new:mirror.additionalImages:name": {"quay.io/org/app:1"}, "new:mirror.blockedImages:name": {".*debug.*"}}, "  additionalImages:\n    - name: quay.io/org/app:1\n  blockedImages:\n    - name: .*debug.*\n", ""},
		{"apply", url.Values{"new:mirror.helm.repositories:name": {"charts"}, "new:mirror.helm.repositories:url": {"https://charts.test"}}, "    repositories:\n      - name: charts\n        url: https://charts.test\n", ""},
		{"apply", url.Values{"new:mirror.helm.repositories[0].charts:name": {"app"}, "new:mirror.helm.repositories[0].charts:version": {"1.10"}}, "        charts:\n          - name: app\n            version: \"1.10\"\n", ""},
		{"remove mirror.helm.repositories[0]", nil, "", "helm"},
		{"remove mirror.operators[0]", nil, "", "operators"},
		{"remove mirror.blockedImages[0]", url.Values{"at:mirror.additionalImages[0].name": {"quay.io/org/app:2"}}, "quay.io/org/app:2", "blocked"},
	} {
		got := e.press(t, step.do, step.fill)
		if !strings.Contains(got, step.has) || step.lacks != "" && strings.Contains(got, step.lacks) || !strings.HasPrefix(got, "# of the plant\n") || !strings.Contains(e.body, "valid image set") {
			t.Fatalf("%s %v:\n%s", step.do, step.fill, got)
		}
	}
	if got := e.press(t, "apply", nil); !strings.Contains(got, "stable-4.18") {
		t.Errorf("a form without a change leaves\n%s", got)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != text {
		t.Errorf("the file of the host became %s, %v", data, err)
	}
	form, _ := fields(t, e.body)
	form.Set("do", "download")
	if code, _, body := s.post(t, "/sync/edit", form); code != 200 || body != strings.ReplaceAll(form.Get("text"), "\r", "") {
		t.Errorf("the download: %d %s", code, body)
	}
}

// The text counts where the form was made of another one, and what is wrong in it is told with its line.
func TestConsole_editText(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	e := &editor{s, s.shows(t, "/sync/edit", 200, "valid image set", "docker://"+host)}
	typed := strings.Replace(emptySet, "{}", "{platform: {channels: [{name: stable-4.17, minVersion: 4.x}]}}", 1)
	got := e.press(t, "apply", url.Values{"text": {typed}, "new:mirror.additionalImages:name": {"quay.io/a/b:1"}})
	if got != typed || !strings.Contains(e.body, "so that the file counts") || !strings.Contains(e.body, `value="stable-4.17"`) {
		t.Errorf("the text that counts is\n%s", got)
	}
	if !strings.Contains(e.body, "Line 3:") || !strings.Contains(e.body, "minVersion: 4.x") || strings.Contains(e.body, "valid image set") {
		t.Errorf("what is wrong is not told:\n%s", e.body)
	}
	for _, text := range []string{"a: &x [1]\nb: *x\n", "kind: [", "- a\n", "", "mirror: " + strings.Repeat("[", 9000), `mirror: {operators: "<script>alert(1)</script>"}`, "kind: ImageSetConfiguration\nmirror: {platform: {channels: {name: [x]}}}\n", strings.Repeat("#", 300<<10)} {
		form, _ := fields(t, e.body)
		form.Set("text", text)
		code, _, body := s.post(t, "/sync/edit", form)
		if code != 200 || strings.Contains(body, "<script>alert") || strings.Contains(body, "valid image set") || !strings.Contains(body, "comes back when") {
			t.Errorf("%.60q is answered with %d\n%.3000s", text, code, body)
		}
		form.Set("do", "apply")
		form.Set("shown", "")
		if code, _, _ := s.post(t, "/sync/edit", form); code != 200 {
			t.Errorf("a change of %.60q is answered with %d", text, code)
		}
	}
	if e.press(t, "remove mirror[99", nil); !strings.Contains(e.body, "is not the place of a key") {
		t.Errorf("a place that is none:\n%s", e.body)
	}
	e = &editor{s, s.shows(t, "/sync/edit", 200)}
	e.press(t, "show", url.Values{"text": {strings.Replace(emptySet, "{}", "{platform: {channels: [{name: true}]}}", 1)}})
	if !strings.Contains(e.body, `name="at:mirror.platform.channels[0].name" value="true"`) {
		t.Errorf("a name that is true:\n%s", e.body)
	}
	e = &editor{s, s.shows(t, "/sync/edit", 200)}
	hostileName := `"><script>alert(1)</script>` + "\n"
	if got := e.press(t, "apply", url.Values{"new:mirror.additionalImages:name": {hostileName}}); strings.Contains(e.body, "<script>alert") || !strings.Contains(got, "<script>alert") {
		t.Errorf("a hostile name:\n%s", got)
	}
}

func TestConsole_editRoles(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1")
	for _, user := range []string{"pull", "push"} {
		s := r.logIn(t, user)
		for _, page := range []string{"/sync/edit", "/sync/edit/live", "/sync/edit/read/live"} {
			s.shows(t, page+"?file="+url.QueryEscape(file), 403, "This page is for administrators.", "!samples/docker")
		}
		if code, _, body := s.send(t, "/documentation", "/sync/edit", url.Values{"text": {emptySet}}); code != http.StatusForbidden || strings.Contains(body, "apiVersion") {
			t.Errorf("%s edits: %d", user, code)
		}
	}
	r.logIn(t, "admin").shows(t, "/sync/edit?file=/etc/passwd", 404, "has no image set", "!root:")
}

func TestConsole_editPlan(t *testing.T) {
	source := newSample(t)
	r, file := startWithSet(t, source, "samples/docker:v1")
	s := r.logIn(t, "admin")
	e := &editor{s, s.shows(t, "/sync/edit?file="+url.QueryEscape(file), 200, "Plan it", "!What a run of it would do")}
	e.press(t, "apply", url.Values{"new:mirror.additionalImages:name": {source + "/samples/oci:v1"}})
	if e.press(t, "plan", nil); !strings.Contains(e.body, "What a run of it would do") || !strings.Contains(e.body, `sse-connect="/sync/edit/live?of=`) {
		t.Errorf("a plan begins with\n%s", e.body)
	}
	until(t, "the plan", func() bool {
		p, err := r.admin.DraftPlan(t.Context())
		return err == nil && p.Running == nil && p.Last != nil
	})
	if e.press(t, "show", nil); !strings.Contains(e.body, "2 images are missing") || !strings.Contains(e.body, "to fetch") || strings.Contains(e.body, "of another text") {
		t.Errorf("the plan is\n%s", e.body)
	}
	if e.press(t, "remove mirror.additionalImages[0]", nil); !strings.Contains(e.body, "of another text") {
		t.Errorf("after a change the plan is\n%s", e.body)
	}
	if e.press(t, "stop", nil); !strings.Contains(e.body, "2 images are missing") {
		t.Errorf("a stop of what has ended:\n%s", e.body)
	}
	if e.press(t, "plan", url.Values{"text": {"mirror: {}"}}); !strings.Contains(e.body, "Mend it first.") {
		t.Errorf("a wrong file is planned:\n%s", e.body)
	}
	if s := r.mirrorOf(t, file); s.Last != nil || s.Running != nil {
		t.Errorf("it ran: %+v", s)
	}
}

// What is here can be chosen from: versions of a channel, and packages of a catalog by parts of their names.
func TestConsole_editChoose(t *testing.T) {
	u := newUpdated(t)
	u.mirror("  platform:\n    graph: true\n    channels: [{name: eus-4.18, minVersion: 4.16.2, maxVersion: 4.18.1, full: true}]\n" +
		"  operators: [{catalog: '" + u.host + "/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database}]}]\n")
	u.becomes("eus-4.18", "4.16.2 4.17.2 4.18.1")
	s := u.logIn(t, "admin")
	e := &editor{s, s.shows(t, "/sync/edit", 200, "!Find a package")}
	e.press(t, "apply", url.Values{"new:mirror.platform.channels:name": {"eus-4.18"}, "new:mirror.platform.channels:minVersion": {"4.16.2"},
		"new:mirror.operators:catalog": {u.host + "/redhat/redhat-operator-index:v4.18"}})
	if !strings.Contains(e.body, `<option value="4.17.2">`) || !strings.Contains(e.body, `value="versions 0"`) {
		t.Errorf("there is nothing to choose from:\n%s", e.body)
	}
	before := e.press(t, "find 0", url.Values{"find:0": {"DATA"}})
	if !strings.Contains(e.body, `value="pick 0 sample-database"`) || !strings.Contains(e.body, "(default)") || strings.Contains(before, "packages:") {
		t.Errorf("what is found:\n%s", e.body)
	}
	if got := e.press(t, "pick 0 sample-database", nil); !strings.Contains(got, "      packages:\n        - name: sample-database\n") || !strings.Contains(e.body, "valid image set") {
		t.Errorf("what was found becomes\n%s", got)
	}
	if e.press(t, "find 0", url.Values{"find:0": {"kafka"}}); !strings.Contains(e.body, "none has this in its name") {
		t.Errorf("nothing is found:\n%s", e.body)
	}
	for _, at := range []string{"find 7", "find -1", "find x", "find"} {
		e.press(t, at, nil)
	}
	if e.press(t, "find 0", url.Values{"text": {strings.Replace(emptySet, "{}", "{operators: [{catalog: 'quay.io/a/b:v1'}]}", 1)}}); !strings.Contains(e.body, "This catalog is not here.") {
		t.Errorf("a catalog that is not here:\n%s", e.body)
	}
}

// A catalog that is not here, or of which a part is, is read at its registry, and is then searched as one that is.
func TestConsole_editReach(t *testing.T) {
	u := newUpdated(t)
	catalog := u.host + "/redhat/redhat-operator-index:v4.18"
	u.mirror("  operators: [{catalog: '" + catalog + "', packages: [{name: sample-database}]}]\n")
	s := u.logIn(t, "admin")
	e := &editor{s, s.shows(t, "/sync/edit", 200)}
	e.press(t, "apply", url.Values{"new:mirror.operators:catalog": {"docker://" + catalog}})
	if strings.Contains(e.body, "nil&gt;") {
		t.Errorf("a search that was not made is shown:\n%s", e.body)
	}
	if e.press(t, "find 0", url.Values{"find:0": {"logging"}}); !strings.Contains(e.body, "none has this in its name") || !strings.Contains(e.body, "what was mirrored of the catalog") ||
		!strings.Contains(e.body, `value="read 0"`) || strings.Contains(e.body, "sse-connect") {
		t.Errorf("what is here of it:\n%s", e.body)
	}
	live := "/sync/edit/read/live?at=0&catalog=" + url.QueryEscape(catalog) + "&search=logging"
	if e.press(t, "read 0", url.Values{"find:0": {"logging"}}); !strings.Contains(html.UnescapeString(e.body), `sse-connect="`+live) {
		t.Errorf("the reading begins with\n%s", e.body)
	}
	until(t, "the reading", func() bool {
		all, err := u.admin.Reached(t.Context())
		return err == nil && all.Running == nil && len(all.Read) == 1
	})
	if _, body := s.looks(t, live); !strings.Contains(body, `value="pick 0 sample-logging"`) || !strings.Contains(body, "packages at its registry") {
		t.Errorf("what moves on:\n%s", body)
	}
	if e.press(t, "find 0", url.Values{"find:0": {"LOGG"}}); !strings.Contains(e.body, `value="pick 0 sample-logging"`) || !strings.Contains(e.body, "(default)") || strings.Contains(e.body, "sse-connect") {
		t.Errorf("what is found:\n%s", e.body)
	}
	if got := e.press(t, "pick 0 sample-logging", nil); !strings.Contains(got, "        - name: sample-logging\n") {
		t.Errorf("what was found becomes\n%s", got)
	}
	if e.press(t, "find 0", url.Values{"find:0": {"kafka"}}); !strings.Contains(e.body, "No package of the catalog has this") {
		t.Errorf("nothing is found:\n%s", e.body)
	}

	e.press(t, "read 0", url.Values{"text": {strings.Replace(emptySet, "{}", "{operators: [{catalog: 'oci:///etc'}]}", 1)}})
	until(t, "the refusal", func() bool {
		return e.press(t, "find 0", nil) != "" && strings.Contains(e.body, "is a path of the host")
	})
	if e.press(t, "read 0", url.Values{"text": {strings.Replace(emptySet, "{}", "{operators: [{catalog: 'u:secret@h.test/a:v1'}]}", 1)}}); !strings.Contains(e.body, "is not a digest") {
		t.Errorf("a login:\n%s", e.body)
	}
	for _, at := range []string{"read 7", "read", "halt 0", "halt x"} {
		e.press(t, at, nil)
	}
	_, err := u.admin.SetOffline(t.Context(), true)
	must(t, err)
	elsewhere := url.Values{"text": {strings.Replace(emptySet, "{}", "{operators: [{catalog: 'quay.io/a/b:v1'}]}", 1)}}
	if e.press(t, "read 0", elsewhere); !strings.Contains(e.body, "This registry is offline") || strings.Contains(e.body, "sse-connect") {
		t.Errorf("while it is offline:\n%s", e.body)
	}
	if all, err := u.admin.Reached(t.Context()); err != nil || slices.ContainsFunc(all.Read, func(c api.ReachedCatalog) bool { return c.Catalog == "quay.io/a/b:v1" }) {
		t.Errorf("it was asked while the registry is offline: %+v %v", all, err)
	}
}
