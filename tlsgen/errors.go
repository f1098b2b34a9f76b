package tlsgen

import (
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// fault returns a problem that the person who set up the certificates can solve. file and cause may be empty.
func fault(file, problem, remedy string, cause error) error {
	if file != "" {
		problem = file + ": " + problem
	}
	err := errors.New(problem)
	if cause != nil {
		err = fmt.Errorf("%s: %w", problem, cause)
	}
	return hint.New(err, remedy)
}
