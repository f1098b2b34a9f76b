package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

const (
	// stopLimit is how long a command may go on after a signal. What it does is safe against a crash, so that to end it
	// then is no worse than a power cut, and what it waits for may never come: a FIFO without a writer, a dead share.
	stopLimit = 12 * time.Second
	// drainLimit is the same for a daemon, which lets requests under way finish.
	drainLimit = time.Minute
	// sooner is how much earlier a command that this one runs for itself is killed. That one ends by itself as much
	// earlier again, if it can.
	sooner = 2 * time.Second
)

func patienceOf(root *cobra.Command, args []string) time.Duration {
	limit := stopLimit
	if c, _, err := root.Find(args); err == nil && c.Name() == "serve" {
		limit = drainLimit
	}
	if os.Getenv(calledByRoot) != "" {
		limit -= 2 * sooner
	}
	return limit
}

// endInTime ends the process when a signal came, ending ctx, and the command goes on for longer than limit; a second
// signal ends it at once. The caller calls ended when the command has ended.
func endInTime(ctx context.Context, stop func(), limit time.Duration, std stdio) (ended func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		stop() // from now on signals do what they do without us
		select {
		case <-done:
		case <-time.After(limit):
			fmt.Fprintf(std.plain().err, "error: the command did not end within %s of the signal, and was ended\n", limit)
			os.Exit(exitError)
		}
	}()
	return func() { close(done) }
}
