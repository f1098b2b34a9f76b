package transfer

import (
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

// table is a table of the schema.
type table struct {
	name string
	key  string // its primary key: the order of its rows
}

// tables are the tables whose rows are copied: each after those that it refers to, and followers after
// what its triggers would record. blobs come before quarantine, whose trigger takes them out of it.
var tables = []table{
	{"repositories", "id"},
	{"blobs", "digest"},
	{"repository_blobs", "repository, digest"},
	{"manifests", "digest"},
	{"manifest_refs", "manifest, position"},
	{"repository_manifests", "repository, digest"},
	{"tags", "repository, name"},
	{"tag_history", "id"},
	{"origins", "repository, digest, tag, origin"},
	{"runs", "id"},
	{"run_blobs", "run, repository, digest"},
	{"run_manifests", "run, repository, digest"},
	{"run_tags", "run, repository, name"},
	{"run_origins", "run, repository, tag, origin"},
	{"removals", "id, digest"},
	{"sources", "repository, registry, path"},
	{"quarantine", "digest"},
	{"quarantine_links", "digest, repository"},
	{"users", "name"},
	{"secrets", "name"},
	{"meta", "name"},
	{"clusters", "id"},
	{"cluster_manifests", "digest, cluster"},
	{"audit", "id"},
	{"following", "one"},
	{"followed", "kind, repository, name"},
	{"feed", "one"},
	{"changes", "seq"},
	{"followers", "id"},
}

// ours are the rows of meta that are not copied with the others: the mark of a copy, and the owner of the storage.
var ours = []string{noteName, blobstore.OwnerNote}

// results are the rows of meta that commands leave which change no content, such as verify, gc --dry-run and scrub.
var results = []string{"verify.last", "gc.last", "scrub.latest", "scrub.complete", integrity.ScrubCursor}

// copied returns the condition for the rows of a table that are copied.
func (t table) copied() string {
	if t.name != "meta" {
		return ""
	}
	return ` WHERE name NOT IN ('` + strings.Join(ours, `', '`) + `')`
}

// content returns the condition for the rows of a table by which it is judged whether a copy has changed: a copy that
// only such commands have opened is as it was copied.
func (t table) content() string {
	switch t.name {
	case "meta":
		return ` WHERE name NOT IN ('` + strings.Join(slices.Concat(ours, results), `', '`) + `')`
	case "audit": // of the control socket: what a command changes, other tables have
		return ` WHERE NOT ("user" = 'local' AND remote = '@')`
	}
	return ""
}

// left are the tables that are not copied, and why.
var left = map[string]string{
	"blob_journal": "the blobs are durable in the target",

	// PostgreSQL's own:
	"appliance_schema":  "the version of the schema, and which process has the database",
	"daemons":           "they serve the source",
	"condemned":         "no daemon of the target removes a blob yet",
	"checked":           "clients that push ask the target again",
	"expected":          "likewise",
	"uploads":           "uploads under way are not copied",
	"claims":            "no daemon of the target has anything yet",
	"lost_links":        "it belongs to a commit under way",
	"sealed":            "the hosts have the CA and the certificate as files",
	"logins":            "users of the console log in again",
	"misses":            "what clients miss at the target is noted there",
	"registry_hostname": "the configurations have it",
	"misses_cleared":    "likewise",
	"work":              "what a daemon of the source has come to is not of the target",
}
