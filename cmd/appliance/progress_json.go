package main

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// tellFetched is how often scripts hear how many bytes were fetched.
const tellFetched = time.Second

// jsonEvents writes an object on a line for each step of a mirror, and the report, or the plan of a
// dry run, on the last. A nil *jsonEvents writes nothing.
type jsonEvents struct {
	to io.Writer
	mu sync.Mutex // one line at a time
}

// jsonEvent is a step. Fields that a step does not have are left out.
type jsonEvent struct {
	Time        time.Time `json:"time"`
	Event       string    `json:"event"`
	Type        plan.Type `json:"type,omitempty"`
	Origin      string    `json:"origin,omitempty"`
	Destination string    `json:"destination,omitempty"`
	Error       string    `json:"error,omitempty"`
	Images      int       `json:"images,omitempty"`
	Bytes       int64     `json:"bytes,omitempty"`   // of all
	Held        int64     `json:"held,omitempty"`    // of what is there
	Missing     int64     `json:"missing,omitempty"` // of what is to be fetched
	Fetched     int64     `json:"fetched,omitempty"`

	Catalogs []plan.CatalogSize `json:"catalogs,omitempty"`
}

// event writes a step. Bytes are told by fetched, since there are many such events.
func (j *jsonEvents) event(e mirror.Event) {
	names := map[mirror.EventKind]string{
		mirror.Resolved: "resolved", mirror.Planned: "planned", mirror.Started: "started",
		mirror.Done: "copied", mirror.Existed: "existed", mirror.Failed: "failed",
	}
	name := names[e.Kind]
	if j == nil || name == "" {
		return
	}
	line := jsonEvent{Event: name}
	if e.Image != nil {
		line.Type, line.Origin = e.Image.Type, e.Image.Origin
		line.Destination = e.Image.Repository + ":" + e.Image.Tag
	}
	if e.Plan != nil {
		line.Images, line.Catalogs = len(e.Plan.Images), e.Plan.Catalogs
		line.Bytes, line.Held, line.Missing = e.Plan.Bytes, e.Plan.Held, e.Plan.Missing
	}
	if e.Err != nil {
		line.Error = e.Err.Error()
	}
	j.step(line)
}

// fetched writes how many bytes were fetched.
func (j *jsonEvents) fetched(bytes, missing int64) {
	if j != nil {
		j.step(jsonEvent{Event: "fetched", Fetched: bytes, Missing: missing})
	}
}

func (j *jsonEvents) step(e jsonEvent) {
	e.Time = time.Now().UTC()
	j.write(e)
}

// report writes the report.
func (j *jsonEvents) report(r *mirror.Report) {
	if j != nil {
		j.write(struct {
			Event string `json:"event"`
			*mirror.Report
		}{"report", r})
	}
}

// plan writes the plan of a dry run.
func (j *jsonEvents) plan(p *plan.Plan) {
	if j != nil {
		j.write(struct {
			Event string `json:"event"`
			*plan.Plan
		}{"plan", p})
	}
}

// write writes a line. What fails is kept by the writer, see output.
func (j *jsonEvents) write(v any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = json.NewEncoder(j.to).Encode(v)
}
