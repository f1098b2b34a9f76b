package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newStatusCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "How the registry on this host is",
		Long: `How the registry on this host is: whether it is healthy, what it holds, how much room there is, and what its
collections and scrubs do and have done.

Exit codes: 0 it runs, healthy or not (see healthy in --output json), or waits at its start for its database or storage
(waiting); 1 it does not, or could not be asked.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runStatus(c.Context(), std, o) },
	}
	o.addFlags(c.Flags())
	return c
}

// shownStatus is a status with the appliances that follow this one.
type shownStatus struct {
	api.Status
	Followers []api.Follower `json:"followers,omitempty"`
}

// runStatus asks the daemon only: opening the store to answer would say nothing of the registry. While none answers, it
// looks at the servers that one needs to start.
func runStatus(ctx context.Context, std stdio, o askOptions) error {
	_, err := askDaemon(ctx, std, &o, func(control *client.Client) (shownStatus, error) {
		now, err := control.Status(ctx)
		status := shownStatus{Status: now}
		if err != nil {
			return status, err
		}
		if status.Services["database"] { // which has them
			if status.Followers, err = control.Followers(ctx); err != nil {
				return status, err
			}
		}
		id, err := o.load()
		if err != nil {
			return status, err
		}
		if err := id.CheckPort(installerDeps()); err != nil {
			status.Healthy = false
			status.Trouble = append(status.Trouble, api.Trouble{Problem: err.Error(), Hint: hint.Of(err)})
		}
		return status, nil
	}, printStatus)
	return withServers(ctx, &o.locateOptions, err)
}

func printStatus(w io.Writer, s shownStatus) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintln(t, name+"\t"+plain.Line(fmt.Sprintf(format, args...)))
	}
	row("address", "https://%s", s.Address)
	row("healthy", "%s", healthy(s.Status))
	if s.Waiting != nil {
		row("version", "%s, started %s", s.Version, when(s.Started))
		row("waits for", "the %s %s, since %s", s.Waiting.For, s.Waiting.Name, when(s.Waiting.Since))
		printTroubles(w, t, s.Trouble)
		return
	}
	row("version", "%s, up since %s", s.Version, when(s.Started))
	renewal := "renews by itself"
	if !s.Renews {
		renewal = "yours to renew"
	}
	row("certificate", "until %s, %s", s.Certificate.Local().Format(time.DateOnly), renewal)
	if s.CA != nil {
		row("CA", "until %s", s.CA.Local().Format(time.DateOnly))
	}
	if s.Offline {
		row("offline", "no other host is asked; appliance offline off ends that")
	}
	printFamily(row, s.Status)
	for _, f := range s.Followers {
		row("followed by", "https://%s, %s", f.Address, behind(f))
	}
	printHeld(row, s.Store)
	for _, room := range s.Space {
		full := ""
		if room.Free < room.Kept {
			full = ": pushes are refused"
		}
		row("free", "%s for %s, of which pushes leave %s%s", bytesOf(room.Free), room.Path, bytesOf(room.Kept), full)
		if room.Inodes > 0 {
			full = ""
			if room.FreeInodes < room.KeptInodes {
				full = ": pushes are refused"
			}
			row("inodes", "%d of %d free for %s, of which pushes leave %d%s", room.FreeInodes,
				room.Inodes, room.Path, room.KeptInodes, full)
		}
	}
	if s.PullQuota > 0 {
		row("pull quota", "%s", bytesOf(s.PullQuota))
	}
	if s.PendingConfig != api.PendingNothing {
		row("config", "config.yaml has changed since it was read: %s", s.PendingConfig)
	}
	printJobs(row, s.Status)
	printTroubles(w, t, s.Trouble)
}

// printTroubles ends the table, and prints what is wrong.
func printTroubles(w io.Writer, t *tabwriter.Writer, all []api.Trouble) {
	_ = t.Flush() // w keeps an error, see output
	for _, trouble := range all {
		printTrouble(w, trouble)
	}
}

func printTrouble(w io.Writer, t api.Trouble) {
	fmt.Fprintln(w, "trouble:", plain.Line(t.Problem))
	if t.Hint != "" {
		fmt.Fprintln(w, "hint:", plain.Line(t.Hint))
	}
}

// printFamily prints the role, unless the appliance has always been alone.
func printFamily(row func(name, format string, args ...any), s api.Status) {
	if s.Family == nil || s.Family.Role == "primary" && s.Family.Generation == 1 {
		return
	}
	text, next := s.Family.Summary()
	row("role", "%s", text)
	if next != "" {
		row("", "%s", next)
	}
	if s.Family.Role != "primary" {
		row("rests", "%s", api.AtRest)
	}
	if s.Following != nil {
		row("follows", "%s", s.Following.Summary())
	}
}

// behind is how far a follower is, as far as the appliance that it follows knows.
func behind(f api.Follower) string {
	switch {
	case f.Relist:
		return "last seen " + when(f.Seen) + ", too far behind: it will compare everything"
	case f.Listing:
		return fmt.Sprintf("last seen %s, compares everything, and does not show it yet: %d tags and manifests", when(f.Seen), f.Changes)
	case f.Changes > 0:
		return fmt.Sprintf("last seen %s, %s behind", when(f.Seen), count(f.Changes, "change"))
	}
	return "equal, last seen " + when(f.Seen)
}

// printHeld prints what the store has, as far as it could be counted.
func printHeld(row func(name, format string, args ...any), held *api.Stats) {
	if held == nil {
		row("held", "not known")
		return
	}
	row("held", "%d repositories, %d tags, %d manifests, %d blobs (%s)",
		held.Repositories, held.Tags, held.Manifests, held.Blobs, bytesOf(held.BlobBytes))
	if held.Quarantined > 0 {
		row("damaged", "%s out of service, see appliance scrub", count(int(held.Quarantined), "blob"))
	}
	row("users", "%d", held.Users)
}

func healthy(s api.Status) string {
	if s.Healthy {
		return "yes"
	}
	var failed []string
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		if !s.Services[name] {
			failed = append(failed, name)
		}
	}
	if len(failed) == 0 {
		return "no, see below"
	}
	why := "see below"
	if len(s.Failing) == 0 { // of an older daemon
		why = "the journal says why"
	}
	return "no: " + strings.Join(failed, " ") + "; " + why
}

// printJobs prints the progress of collection and scrub, and their last results.
func printJobs(row func(name, format string, args ...any), s api.Status) {
	if p := s.GC; p != nil && p.Planned {
		row("gc", "since %s: freed %s of %s, %d of %s", when(p.Began), bytesOf(p.Done.Bytes),
			bytesOf(p.Of.Bytes), p.Done.Blobs, count(p.Of.Blobs, "blob"))
		atHost(row, p.Host)
	} else if p != nil {
		row("gc", "since %s: planning, %s to free so far", when(p.Began), bytesOf(p.Of.Bytes))
		atHost(row, p.Host)
	}
	never := "never"
	if !s.Services["database"] {
		never = "not known"
	}
	switch r := s.LastGC; {
	case r == nil:
		row("last gc", "%s", never)
	case r.Error != "":
		row("last gc", "%s, freed %s, then failed: %s", when(r.Ended), bytesOf(r.Bytes), r.Error)
	default:
		row("last gc", "%s, freed %s: %s", when(r.Ended), bytesOf(r.Bytes), garbage(r.Result))
	}
	if p := s.Scrub; p != nil {
		state := "stopped, goes on by itself"
		if p.Running {
			state = "runs"
		}
		row("scrub", "since %s, %s: %s", when(p.Began), state, howFar(*p))
		if p.Running {
			atHost(row, p.Host)
		} else if p.Host != "" {
			row("", "interrupted: the daemon on host %s, which did it, has ended", p.Host)
		}
	}
	if p := s.LastScrub; p != nil {
		row("last scrub", "%s, read %s (%s), %d damaged, %d of them repaired", when(p.Ended),
			count(int(p.Blobs), "blob"), bytesOf(p.Bytes), p.Damaged, p.Repaired)
	} else {
		row("last scrub", "%s", never)
	}
	for _, m := range s.Sync {
		printSync(row, m)
	}
	if m := s.LastMirror; m != nil {
		row("last mirror", "%s, %s: %s", when(m.Committed), m.Name, count(m.Tags, "tag"))
	} else {
		row("last mirror", "%s", never)
	}
	if u := s.Updates; u != nil {
		printUpdatesState(row, *u)
	}
	if p := s.CatalogsPass; p != nil {
		row("catalogs", "since %s: %d of %s", when(p.Began), p.Done, count(p.Views, "view"))
	}
	for _, v := range s.Catalogs {
		printView(func(format string, args ...any) { row("catalog", format, args...) },
			func(format string, args ...any) { row("", format, args...) }, v, leftOutShown)
	}
}

// atHost prints the host of another daemon that does what is shown; "": this one does.
func atHost(row func(name, format string, args ...any), host string) {
	if host != "" {
		row("", "by the daemon on host %s", host)
	}
}

// leftOutShown is how many of the bundles that a view leaves out are shown; appliance catalogs has
// more.
const leftOutShown = 3

// printSync prints the progress of an image set's run, and its last result.
func printSync(row func(name, format string, args ...any), s api.MirrorState) {
	if p := s.Running; p != nil {
		row("sync", "%s since %s: %s", s.ImageSet, when(p.Began), mirroring(*p))
		atHost(row, p.Host)
	}
	r := s.Last
	if r == nil {
		row("last sync", "%s: never", s.ImageSet)
		return
	}
	row("last sync", "%s, %s: %d of %s, fetched %s", s.ImageSet, when(r.Ended), r.Mirrored,
		count(r.Planned, "image"), bytesOf(r.Fetched))
	if r.Error != "" {
		row("", "failed: %s", r.Error)
	}
	for _, f := range r.Failures {
		row("", "failed: %s: %s", f.Image, f.Error)
	}
	for _, w := range r.Warnings {
		row("", "warning: %s", w)
	}
	if r.Report != "" {
		row("", "report %s", r.Report)
	}
}

func printUpdatesState(row func(name, format string, args ...any), u api.UpdatesState) {
	state := "no graph data, so that clusters are offered nothing: appliance updates show"
	if u.Since != nil {
		state = "graph data since " + when(*u.Since)
	}
	if u.Problems > 0 {
		state += ", " + count(u.Problems, "problem") + ", see appliance updates show"
	}
	row("updates", "%s, %s", count(u.Releases, "release"), state)
}
