package mirror

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// classError is an error with the exit code of a class of images.
type classError struct {
	error
	code int
}

func (e *classError) Unwrap() error { return e.error }

// ExitCode returns the bit of the class.
func (e *classError) ExitCode() int { return e.code }

// classed gives an error the exit code of a type of images, unless it has one.
func classed(of plan.Type, err error) error {
	var e *classError
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &classError{err, of.Class().Exit}
}

// incompleteError is a run in which some images failed, or a plan that lacks some.
type incompleteError struct {
	Failed, Planned int            // images
	Unresolved      map[string]int // what has no images yet, such as channels, by plan.Class.Asked
	Signatures      int            // images whose signatures could not be read
	Code            int            // a bit mask, see plan.Class
	Log             string         // the file that lists the failures of a run, if one could be written

	unplanned bool
}

// incomplete returns the error of some failures among all images, nil if there are none.
func incomplete(failures []plan.Failure, all int, unplanned bool) *incompleteError {
	e := &incompleteError{Failed: len(failures), Planned: all, Unresolved: map[string]int{}, unplanned: unplanned}
	for _, f := range failures {
		switch {
		case f.Signatures:
			e.Signatures, e.Failed = e.Signatures+1, e.Failed-1
		case f.Image.Reference == (imageset.Reference{}):
			e.Failed, e.Planned = e.Failed-1, e.Planned-1
			e.Unresolved[f.Image.Type.Class().Asked]++
		}
		e.Code |= f.Image.Type.Class().Exit
	}
	return e
}

// Partly reports whether the error of a run says that some of the images failed, and the others are
// at their destination.
func Partly(err error) bool {
	var e *incompleteError
	return errors.As(err, &e) && !e.unplanned && e.Failed < e.Planned
}

func (e *incompleteError) Error() string {
	what := "are not at their destination"
	if e.unplanned {
		what = "cannot be mirrored"
	}
	var all, unresolved []string
	for _, asked := range slices.Sorted(maps.Keys(e.Unresolved)) {
		unresolved = append(unresolved, fmt.Sprintf("%d of the %s", e.Unresolved[asked], asked))
	}
	if len(unresolved) > 0 {
		all = append(all, strings.Join(unresolved, ", ")+" cannot be resolved")
	}
	if e.Failed > 0 {
		all = append(all, fmt.Sprintf("%d of %d images %s", e.Failed, e.Planned, what))
	}
	if e.Signatures > 0 {
		all = append(all, fmt.Sprintf("the signatures of %d of %d images cannot be read", e.Signatures, e.Planned))
	}
	text := strings.Join(all, ", and ")
	if e.Log != "" {
		text += ", see " + e.Log
	}
	return text
}

// ExitCode returns the bit mask of the classes of the failed images.
func (e *incompleteError) ExitCode() int { return e.Code }

// Hint returns what to do about it.
func (e *incompleteError) Hint() string {
	if e.unplanned {
		return "mend what failed, or mirror without it: the others would be copied"
	}
	return "mend what the failures name, if anything, and run the same command again: what has arrived is not fetched again"
}
