package main

import (
	"slices"
	"time"
)

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// series is a figure of each round, by server.
type series map[string][]float64

func (s series) add(name string, v float64) { s[name] = append(s[name], v) }

// ratios are a's figures over b's, round by round.
func (s series) ratios(a, b string) []float64 {
	var all []float64
	for i := range min(len(s[a]), len(s[b])) {
		if s[b][i] > 0 {
			all = append(all, s[a][i]/s[b][i])
		}
	}
	return all
}

// row compares subject and probe, and has the figures of the others beside them.
func (s series) row(what, unit string) row {
	r := row{What: what, Unit: unit, Value: median(s[subjectName]), Probe: median(s[probeName])}
	r.compare(s.ratios(subjectName, probeName))
	for name, v := range s {
		if name == distributionProgram || name == zotProgram {
			if r.Peers == nil {
				r.Peers = map[string]float64{}
			}
			r.Peers[name] = median(v)
		}
	}
	return r
}

func (r *row) compare(ratios []float64) {
	if len(ratios) == 0 {
		return
	}
	r.Ratio, r.Spread = median(ratios), []float64{slices.Min(ratios), slices.Max(ratios)}
}

// percentile of durations, in milliseconds. It sorts them.
func percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return milliseconds(d[min(len(d)-1, int(float64(len(d))*p))])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
