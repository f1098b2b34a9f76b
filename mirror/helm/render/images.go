package render

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/client-go/util/jsonpath"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// podPaths are where manifests name images: oc-mirror's four, and those of a CronJob, which it does
// not look at.
var podPaths = []string{
	"{.spec.template.spec.initContainers[*].image}",
	"{.spec.template.spec.containers[*].image}",
	"{.spec.initContainers[*].image}",
	"{.spec.containers[*].image}",
	"{.spec.jobTemplate.spec.template.spec.initContainers[*].image}",
	"{.spec.jobTemplate.spec.template.spec.containers[*].image}",
}

// finder finds images in the manifests of one chart.
type finder struct {
	paths    []*searchPath
	images   []string // each once
	untagged []string // values that an image should be and that no image can be pulled by
}

// searchPath is a JSONPath to images.
type searchPath struct {
	text   string
	parsed *jsonpath.JSONPath
	listed bool // by the configuration: such a path may lead to other values too
	used   bool
	err    error // the last of a document that the path does not fit
}

func newFinder(listed []string) (*finder, error) {
	f := &finder{}
	for i, text := range slices.Concat(podPaths, listed) {
		p := &searchPath{text: text, parsed: jsonpath.New("").AllowMissingKeys(true), listed: i >= len(podPaths)}
		if err := p.parsed.Parse(text); err != nil {
			return nil, hint.New(fmt.Errorf("imagePaths: %q is not a JSONPath: %w", text, err),
				"write '{.spec.template.spec.containers[*].env[*].value}', for example")
		}
		f.paths = append(f.paths, p)
	}
	return f, nil
}

// look looks for images in a document, and in those of a list.
func (f *finder) look(document any) {
	object, ok := document.(map[string]any)
	if !ok {
		return
	}
	if items, ok := object["items"].([]any); ok && object["kind"] == "List" {
		for _, item := range items {
			f.look(item)
		}
	}
	for _, p := range f.paths {
		results, err := p.parsed.FindResults(object)
		if err != nil { // a list is shorter, or a value is of another kind: it is another kind of document
			p.err = err
			continue
		}
		for _, result := range results {
			for _, value := range result {
				f.value(p, value)
			}
		}
	}
}

// value takes the images out of a value: a text with one or more, or a list of such texts.
func (f *finder) value(p *searchPath, value reflect.Value) {
	for value.IsValid() && (value.Kind() == reflect.Interface || value.Kind() == reflect.Pointer) {
		value = value.Elem()
	}
	switch {
	case !value.IsValid():
	case value.Kind() == reflect.String:
		p.used = true
		for text := range strings.FieldsSeq(value.String()) {
			f.text(p, text)
		}
	case value.Kind() == reflect.Slice:
		for i := range value.Len() {
			f.value(p, value.Index(i))
		}
	}
}

func (f *finder) text(p *searchPath, text string) {
	list := &f.images
	if _, err := imageset.ParseReference(text); err != nil {
		if p.listed && !likeImage.MatchString(text) {
			return
		}
		list = &f.untagged
	}
	if !slices.Contains(*list, text) {
		*list = append(*list, text)
	}
}

// likeImage is the form of an image without tag: a host, and a path.
var likeImage = regexp.MustCompile(`^[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]+)?(?:/[a-z0-9._-]+)+$`)

func (f *finder) warnings() (all []string) {
	for _, text := range f.untagged {
		_, err := imageset.ParseReference(text)
		all = append(all, fmt.Sprintf("image %q is not mirrored: %v", imageset.Shown(text), err))
	}
	for _, p := range f.paths {
		if !p.listed || p.used {
			continue
		}
		reason := ""
		if p.err != nil {
			reason = ": " + p.err.Error()
		}
		all = append(all, fmt.Sprintf("imagePaths: %s leads to no value%s", p.text, reason))
	}
	return all
}
