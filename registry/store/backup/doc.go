// Package backup copies a store while it is in use, and makes a store of such a copy.
//
// Create writes a backup, Restore reads one, and Stream reads one for a Restore in another process.
// A backup is a directory, or a .tar of the same names:
//
//	<backup>/appliance.db              a whole SQLite file, without a WAL
//	<backup>/sha256/<2 hex>/<hex>      the blobs, laid out as in the storage
//	<backup>/sha512/<2 hex>/<hex>
//
// In a .tar the database comes first and the blobs follow in the order of their digests. The
// database names the blobs that belong to the backup; other files are of an older one or of one
// that was interrupted, and do no harm. The database has password hashes and secrets in it, so a
// backup is readable for its owner alone.
//
// Neither side needs an open store: the user who may write the backup is rarely the one who
// owns the store. The caller may be root, and the owner of the store a service that was
// taken over: no link is followed out of the directories of either side, and all that is
// read must hash to its name.
//
// Refused: a backup that copies the database file itself, since the WAL belongs to it; and a format
// of our own, since a directory can be looked at, and copied by any tool.
package backup
