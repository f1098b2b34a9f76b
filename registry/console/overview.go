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
	Findings  []finding.Finding // the worst first
	Followers []api.Follower
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

// Alone reports whether there is nothing to show of a pair.
func (p overviewPage) Alone() bool {
	return len(p.Followers) == 0 && (p.Family == nil || p.Family.Role == "primary" && p.Family.Generation == 1)
}

// Role describes the role of the appliance.
func (p overviewPage) Role() string {
	text, _ := p.Family.Summary()
	return text
}

// overview returns what doctor tells of the daemon, without what is as it should be.
func (v *visit) overview() (p overviewPage, err error) {
	if p.Status, err = v.c.api.Status(v.r.Context()); err != nil {
		return p, err
	}
	if p.Services["database"] { // which has them
		if p.Followers, err = v.c.api.Followers(v.r.Context()); err != nil {
			return p, err
		}
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
