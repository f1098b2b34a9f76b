package registry

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

func (d *daemon) verifyKind() jobs.Kind[api.VerifyRequest, api.VerifyProgress, api.VerifyReport] {
	return jobs.Kind[api.VerifyRequest, api.VerifyProgress, api.VerifyReport]{Name: "verification", Run: d.verify, Drain: d.draining, Log: d.log}
}

func (d *daemon) verify(ctx context.Context, q api.VerifyRequest, progress func(api.VerifyProgress)) (api.VerifyReport, error) {
	report, err := d.store.Integrity().Verify(ctx, store.VerifyOptions{
		Content: q.Content, BytesPerSecond: q.BytesPerSecond,
		Progress: func(done store.VerifyReport, of store.StoreSize) {
			done.Problems = nil // they come with the result
			progress(api.VerifyProgress{Done: verifyReport(done), Of: api.VerifySize(of)})
		},
	})
	return verifyReport(report), err
}

func verifyReport(r store.VerifyReport) api.VerifyReport {
	problems := make([]api.Problem, 0, len(r.Problems))
	for _, p := range r.Problems {
		problems = append(problems, api.Problem{Kind: string(p.Kind), Name: p.Name, What: p.What, Remedy: p.Remedy})
	}
	return api.VerifyReport{
		Manifests: r.Manifests, References: r.References, Tags: r.Tags, Blobs: r.Blobs, BlobBytes: r.BlobBytes,
		ContentBytes: r.ContentBytes, Unfetched: r.Unfetched, Quarantined: r.Quarantined, ExtraFiles: r.ExtraFiles,
		ExtraBytes: r.ExtraBytes, StaleUploads: r.StaleUploads, StaleUploadBytes: r.StaleUploadBytes,
		Problems: problems, MoreProblems: r.MoreProblems,
	}
}
