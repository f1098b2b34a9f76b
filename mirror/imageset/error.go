package imageset

// invalidError lists all problems of one file.
type invalidError struct {
	error
	additional bool // all are about names of additional images
}

func (e *invalidError) Unwrap() error { return e.error }

// ExitCode returns oc-mirror's exit code: 8 if only names of additional images are wrong, else 1.
func (e *invalidError) ExitCode() int {
	if e.additional {
		return 8
	}
	return 1
}
