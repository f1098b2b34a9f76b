package console

import (
	"strconv"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const storagePath = "/storage"

// storagePage is what uses the space, and the jobs that look after it.
type storagePage struct {
	listed
	CSRF   string
	Status api.Status
	Usage  api.Usage
}

func (v *visit) storage() error {
	q := v.asked()
	after, _ := strconv.Atoi(q.After) // what is no number is the beginning
	usage, err := v.c.api.Usage(v.r.Context(), api.UsageRequest{Text: q.Search, After: after})
	if err != nil {
		return err
	}
	status, err := v.c.api.Status(v.r.Context())
	if err != nil {
		return err
	}
	next := ""
	if usage.Next > 0 {
		next = strconv.Itoa(usage.Next)
	}
	return v.show("storage", "storage", "storage.title", storagePage{listed: list(storagePath, q, next), CSRF: v.session.CSRF, Status: status, Usage: usage})
}

func (v *visit) storageLive() error {
	return v.live("storage", "work", func() (any, error) { return v.c.api.Status(v.r.Context()) })
}

// collectionPage is a collection before it is begun.
type collectionPage struct {
	CSRF  string
	Grace api.Duration
	Plan  api.GCPlan
}

func (v *visit) askCollect() error {
	plan, err := v.c.api.GCPlan(v.r.Context())
	if err != nil {
		return err
	}
	usage, err := v.c.api.Usage(v.r.Context(), api.UsageRequest{Limit: 1})
	if err != nil {
		return err
	}
	return v.show("storage-gc", "storage", "storage.gc.title", collectionPage{CSRF: v.session.CSRF, Grace: usage.GracePeriod, Plan: plan})
}

func (v *visit) collectLive() error {
	return v.live("storage-gc", "plan", func() (any, error) { return v.c.api.GCPlan(v.r.Context()) })
}

func (v *visit) planCollection() error {
	return v.begun("/storage/gc", "storage.gc.planning", v.c.api.BeginGC(v.r.Context(), api.GCRequest{DryRun: true}))
}

func (v *visit) collect() error {
	return v.begun(storagePath, "storage.gc.begun", v.c.api.BeginGC(v.r.Context(), api.GCRequest{}))
}

func (v *visit) scrub() error {
	q := api.ScrubRequest{}
	if v.field("slowly") != "" {
		q.BytesPerSecond = 20 << 20 // as by itself, unless config.yaml has another rate
	}
	return v.begun(storagePath, "storage.scrub.begun", v.c.api.BeginScrub(v.r.Context(), q))
}

func (v *visit) verify() error {
	q := api.VerifyRequest{Content: v.field("content") != ""}
	return v.begun(storagePath, "storage.verify.begun", v.c.api.BeginVerify(v.r.Context(), q))
}

// begun tells that a job has begun, unless it has not.
func (v *visit) begun(path, notice string, err error) error {
	if err != nil {
		return err
	}
	return v.done(path, v.c.views.text(notice))
}

func (v *visit) damage() error {
	damage, err := v.c.api.Damage(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("storage-damage", "storage", "storage.damage.title", damage)
}
