package console

import (
	"net/http"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// overviewPage is the state of the registry, and what of it is not as it should be.
type overviewPage struct {
	api.Status
	Findings []finding.Finding // the worst first
}

// home is the first page: the overview for administrators, and for others what they may see.
func (v *visit) home() error {
	if !v.session.May(auth.Administer) {
		http.Redirect(v.w, v.r, repositoriesPath, http.StatusSeeOther)
		return nil
	}
	p, err := v.overview()
	if err != nil {
		return err
	}
	return v.show("overview", "overview", "overview.title", p)
}

func (v *visit) overviewLive() error {
	return v.live("overview", "now", func() (any, error) { return v.overview() })
}

// overview returns what doctor tells of the daemon, without what is as it should be.
func (v *visit) overview() (p overviewPage, err error) {
	if p.Status, err = v.c.api.Status(v.r.Context()); err != nil {
		return p, err
	}
	var warnings []finding.Finding
	p.Examine(time.Now(), func(f finding.Finding) {
		switch {
		case f.Check == "storage": // damaged blobs, of which the page tells with a link to them
		case f.Level == finding.Failed:
			p.Findings = append(p.Findings, f)
		case f.Level == finding.Warning:
			warnings = append(warnings, f)
		}
	})
	p.Findings = append(p.Findings, warnings...)
	return p, nil
}
