// Command appliance-helm renders a Helm chart and prints the images that it names. It is started by
// appliance, which has it inside: Helm's libraries would take 60 ms and 20 MB of each process of
// that program, the daemon's too.
//
// It reads a helm.Chart as JSON from its standard input, and writes a helm.Answer.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/helm/render"
)

func main() {
	if err := answer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// answer renders the chart of one request. A chart that cannot be rendered is an answer too.
func answer(in io.Reader, out io.Writer) error {
	var chart helm.Chart
	if err := json.NewDecoder(in).Decode(&chart); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	rendered, err := render.Chart(chart)
	answer := helm.Answer{Rendered: rendered}
	if err != nil {
		answer.Error, answer.Hint = err.Error(), hint.Of(err)
	}
	return json.NewEncoder(out).Encode(answer)
}
