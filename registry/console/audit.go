package console

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const (
	auditRows = 50  // of a page
	auditLive = 500 // rows that a page grows to
)

// auditPage is a part of the audit, the newest first.
type auditPage struct {
	api.AuditPage
	Kinds    []string
	Filter   auditFilter
	Filtered bool
	Newest   bool // it begins with the newest, which come by themselves
}

// Address returns the address of another page with the same filter.
func (p auditPage) Address(path, name string, id int64) string {
	q := url.Values{}
	for name, value := range map[string]string{"kind": p.Filter.Kind, "user": p.Filter.User, "event": p.Filter.Event,
		"text": p.Filter.Text, "from": p.Filter.From, "to": p.Filter.To} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if name != "" {
		q.Set(name, strconv.FormatInt(id, 10))
	}
	return path + "?" + q.Encode()
}

// Since returns the id of the last row, from which on the page grows.
func (p auditPage) Since() int64 {
	if n := len(p.Records); n > 0 {
		return p.Records[n-1].ID
	}
	return 0
}

// auditFilter is what is asked for, as the address of the page has it.
type auditFilter struct{ Kind, User, Event, Text, From, To string }

// auditRequest reads the filter of an address. Dates are days of UTC, the last one included.
func (v *visit) auditRequest() (q api.AuditRequest, f auditFilter, err error) {
	given := v.r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(given.Get(name)) }
	f = auditFilter{get("kind"), get("user"), get("event"), get("text"), get("from"), get("to")}
	q = api.AuditRequest{Kind: f.Kind, User: f.User, Event: f.Event, Text: f.Text}
	if f.From != "" {
		q.From, err = time.Parse(time.DateOnly, f.From)
	}
	if f.To != "" && err == nil {
		q.To, err = time.Parse(time.DateOnly, f.To)
		if q.To = q.To.AddDate(0, 0, 1); q.To.Year() > 9999 { // which JSON cannot have
			q.To = time.Time{}
		}
	}
	if after := get("after"); after != "" && err == nil {
		q.After, err = strconv.ParseInt(after, 10, 64)
	}
	if err != nil {
		err = v.refusal(http.StatusBadRequest, "audit.unread")
	}
	return q, f, err
}

func (v *visit) audit() error {
	q, f, err := v.auditRequest()
	if err != nil {
		return err
	}
	q.Limit = auditRows
	found, err := v.c.api.Audit(v.r.Context(), q)
	if err != nil {
		return err
	}
	return v.show("audit", "audit", "audit.title", auditPage{AuditPage: found, Filter: f, Filtered: f != auditFilter{},
		Kinds: []string{api.AuditControl, api.AuditContent, api.AuditAccess}, Newest: q.After == 0})
}

// auditLive sends the records since the last one of the page. It asks for them when there is any new
// record, since a filter that selects few reads all.
func (v *visit) auditLive() error {
	q, f, err := v.auditRequest()
	if err != nil {
		return err
	}
	q.After, q.Limit = 0, auditLive
	since, _ := strconv.ParseInt(v.r.URL.Query().Get("since"), 10, 64) // else from the first on
	shown, newest := auditPage{Filter: f, Filtered: f != auditFilter{}}, int64(-1)
	return v.live("audit", "records", func() (any, error) {
		last, err := v.c.api.Audit(v.r.Context(), api.AuditRequest{Limit: 1})
		if err != nil {
			return nil, err
		}
		id := int64(0)
		if len(last.Records) > 0 {
			id = last.Records[0].ID
		}
		if id != newest {
			if shown.AuditPage, err = v.c.api.Audit(v.r.Context(), q); err != nil {
				return nil, err
			}
			newest = id
			shown.Records = slices.DeleteFunc(shown.Records, func(r api.AuditRecord) bool { return r.ID < since })
		}
		return shown, nil
	})
}

// hostOf returns the host of an address of a connection.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// auditDownload sends all that the filter selects, a JSON object a line.
func (v *visit) auditDownload() error {
	q, _, err := v.auditRequest()
	if err != nil {
		return err
	}
	q.Limit = 1000
	found, err := v.c.api.Audit(v.r.Context(), q)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/x-ndjson")
	v.w.Header().Set("Content-Disposition", `attachment; filename="audit.jsonl"`)
	lines := json.NewEncoder(v.w)
	for {
		for _, r := range found.Records {
			if lines.Encode(r) != nil {
				return nil // the browser went away
			}
		}
		if q.After = found.Next; q.After == 0 {
			return nil
		}
		if found, err = v.c.api.Audit(v.r.Context(), q); err != nil {
			v.c.Log.ErrorContext(v.r.Context(), "the download of the audit broke off", "error", err)
			panic(http.ErrAbortHandler) // so that it does not look whole
		}
	}
}
