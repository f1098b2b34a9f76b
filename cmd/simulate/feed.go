package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cmd/simulate/feed"
)

func newFeedCommand() *cobra.Command {
	o := feed.Options{CommitTime: 0.5}
	var roundTrip, pageCPU, rowCPU, bandwidth, size, from, to float64
	var output string
	cmd := &cobra.Command{
		Use:   "feed",
		Short: "Appliances follow another for days, one of which is cut off for a time",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.RoundTrip, o.PageCPU, o.RowCPU = roundTrip/1e3, pageCPU/1e3, rowCPU/1e6
			o.Bandwidth, o.Bytes = bandwidth*gigabit, size*megabyte
			o.CutFrom, o.CutTo = from*24*3600, to*24*3600
			result, err := feed.Run(o)
			if err != nil {
				return err
			}
			return printResult(cmd.OutOrStdout(), output, result, feedRows(result))
		},
	}
	f := cmd.Flags()
	f.Float64Var(&o.Days, "days", 14, "days")
	f.Float64Var(&o.Pushes, "pushes", 2, "changes a second by pushes")
	f.Float64Var(&o.Hot, "hot", 0.5, "share of these that move a tag again")
	f.IntVar(&o.HotOf, "tags", 500, "tags that these are")
	f.Float64Var(&size, "size", 20, "megabytes of new content of a change")
	f.IntVar(&o.Run, "run", 5000, "changes of the run that ends each day")
	f.IntVar(&o.Manifests, "manifests", 1_000_000, "manifests of the first, for a listing")
	f.IntVar(&o.Horizon, "horizon", 1_000_000, "rows of changes that the first keeps")
	f.IntVar(&o.Followers, "followers", 3, "followers")
	f.Float64Var(&roundTrip, "round-trip", 20, "milliseconds to the first")
	f.IntVar(&o.Page, "page", 1000, "changes of a page")
	f.Float64Var(&pageCPU, "page-cpu", 1, "milliseconds of CPU that a page takes")
	f.Float64Var(&rowCPU, "row-cpu", 10, "microseconds of CPU that a change in it takes")
	f.Float64Var(&bandwidth, "bandwidth", 1, "Gbit/s to a follower")
	f.Float64Var(&from, "cut-from", 3, "day on which the last follower is cut off")
	f.Float64Var(&to, "cut-to", 10, "day on which it is back")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func feedRows(r feed.Result) [][2]string {
	return [][2]string{
		{"changes", fmt.Sprint(r.Changes)},
		{"rows of changes at a time, at most", fmt.Sprint(r.Rows)},
		{"pages read", fmt.Sprint(r.Pages)},
		{"CPU of the first, a day and follower", fmt.Sprintf("%.1f s", r.CPU)},
		{"commits of followers", fmt.Sprint(r.Commits)},
		{"behind: median, p99, most", fmt.Sprintf("%.1f s, %.1f s, %.1f s", r.Median, r.P99, r.Max)},
		{"catching up after the cut", fmt.Sprintf("%.0f s, %d changes, with a listing: %t", r.CatchUp, r.CatchUpRows, r.Listed)},
	}
}
