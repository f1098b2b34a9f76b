// Package support is what an administrator asks a running appliance when something is wrong: what
// the daemon says of itself as findings, beside those that installer has of the host, and an archive
// of all of it for those who help.
//
// Use Ask for the first, and Bundle for the second. What goes into an archive has passed the redactor.
//
// Refused: an archive of whole directories, since a file of unknown content may hold a
// secret; sosreport and its plugins, which a host without a subscription may lack.
package support

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// Ask asks the daemon how it is, and tells what it finds. The status is nil if there is no answer.
func Ask(ctx context.Context, control *client.Client, version string, tell func(finding.Finding)) *api.Status {
	t := teller{tell}
	status, err := control.Status(ctx)
	if err != nil {
		t.Fail("daemon", "", err.Error(), hint.Of(err))
		return nil
	}
	t.version(status, version)
	status.Examine(time.Now(), tell)
	if status.Waiting == nil {
		t.upstreams(ctx, control, status)
	}
	return &status
}

// Once returns the functions that tell what installer.Examine finds and then what Ask does, without what
// the former has told: where the configuration of the host cannot be used, the daemon's differs.
func Once(tell func(finding.Finding)) (examined, asked func(finding.Finding)) {
	unusable, told := false, make(map[string]bool)
	examined = func(f finding.Finding) {
		unusable = unusable || f.Check == "config" && f.Level == finding.Failed
		told[f.Text] = told[f.Text] || f.Level != finding.OK
		tell(f)
	}
	asked = func(f finding.Finding) {
		if follows := f.Check == "config" && f.Level == finding.Warning && unusable; !follows && !told[f.Text] {
			tell(f)
		}
	}
	return examined, asked
}

type teller struct{ finding.Teller }

// version tells which version runs.
func (t teller) version(s api.Status, version string) {
	since := "since " + s.Started.Local().Format(time.DateTime)
	if s.Version == version {
		t.OK("daemon", "", "version %s runs, %s", s.Version, since)
	} else {
		t.Warn("daemon", "", fmt.Sprintf("version %s runs, %s, and this program is %s", s.Version, since, version),
			"to have this one run: appliance install")
	}
}

// upstreams has the daemon ask its upstreams.
func (t teller) upstreams(ctx context.Context, control *client.Client, s api.Status) {
	if s.Offline {
		t.OK("upstream", "", "offline: none is asked")
		return
	}
	tested, err := control.TestUpstreams(ctx, api.UpstreamTest{})
	if err != nil {
		t.Warn("upstream", "", "they cannot be tested: "+err.Error(), cmp.Or(hint.Of(err), "appliance upstream test"))
		return
	}
	for _, u := range tested {
		if u.Error != "" {
			t.Fail("upstream", u.Prefix, u.Error, u.Hint)
			continue
		}
		t.OK("upstream", u.Prefix, "%s", strings.TrimSpace(u.URL)+" answers")
	}
}
