package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Answer is what cmd/appliance-helm writes.
type Answer struct {
	Rendered
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// patience is how long a chart may take. Real ones take less than a second.
const patience = 2 * time.Minute

// Process returns a Collector.Render that starts a program for each chart. command returns the
// program, ready to be started.
func Process(command func(context.Context) (*exec.Cmd, error)) func(context.Context, Chart) (Rendered, error) {
	return func(ctx context.Context, c Chart) (Rendered, error) {
		within, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		cmd, err := command(within)
		if err != nil {
			return Rendered{}, err
		}
		request, err := json.Marshal(c)
		if err != nil {
			return Rendered{}, err
		}
		var noise bytes.Buffer
		cmd.Stdin, cmd.Stderr = bytes.NewReader(request), &noise
		out, err := cmd.Output()
		switch {
		case ctx.Err() != nil:
			return Rendered{}, ctx.Err()
		case within.Err() != nil:
			return Rendered{}, fmt.Errorf("rendering the chart takes longer than %v; is there a loop without end in a template?", patience)
		case err != nil:
			return Rendered{}, fmt.Errorf("render the chart: %w: %s", err, lastLine(noise.String()))
		}
		var answer Answer
		if err := json.Unmarshal(out, &answer); err != nil {
			return Rendered{}, fmt.Errorf("render the chart: the answer of the renderer: %w", err)
		}
		if answer.Error == "" {
			return answer.Rendered, nil
		}
		err = errors.New(answer.Error)
		if answer.Hint != "" {
			err = hint.New(err, answer.Hint)
		}
		return answer.Rendered, err
	}
}

// lastLine returns the end of a text, which a panic may have made long.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
