-- Times are nanoseconds since 1970 in UTC, 0 for never. Digests are text, "sha256:…".

CREATE TABLE repositories (
  id      INTEGER PRIMARY KEY,
  name    TEXT    NOT NULL UNIQUE,
  created INTEGER NOT NULL
) STRICT;

-- A row here says that the file is whole on disk. It is written after the file is.
CREATE TABLE blobs (
  digest  TEXT    NOT NULL PRIMARY KEY,
  size    INTEGER NOT NULL,
  created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which repository a blob was pushed or mounted into, and when it last was.
CREATE TABLE repository_blobs (
  repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
  digest     TEXT    NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
  linked     INTEGER NOT NULL,
  PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest, linked);

-- The body stands last, so that reading the other columns does not walk its overflow pages.
CREATE TABLE manifests (
  digest        TEXT    NOT NULL PRIMARY KEY,
  media_type    TEXT    NOT NULL,
  artifact_type TEXT    NOT NULL,
  subject       TEXT    NOT NULL, -- '' for none
  annotations   TEXT    NOT NULL, -- JSON object, '' for none
  size          INTEGER NOT NULL,
  created       INTEGER NOT NULL,
  body          BLOB    NOT NULL
) STRICT;
CREATE INDEX manifests_by_subject ON manifests (subject) WHERE subject <> '';

-- What a manifest is made of. The digest need not be held: children of sparse indexes and foreign layers are not.
CREATE TABLE manifest_refs (
  manifest   TEXT    NOT NULL REFERENCES manifests (digest) ON DELETE CASCADE,
  position   INTEGER NOT NULL,
  kind       TEXT    NOT NULL CHECK (kind IN ('config', 'layer', 'child')),
  digest     TEXT    NOT NULL,
  size       INTEGER NOT NULL,
  media_type TEXT    NOT NULL,
  elsewhere  INTEGER NOT NULL, -- 1: fetched from elsewhere, need not be held
  PRIMARY KEY (manifest, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_refs_by_digest ON manifest_refs (digest, manifest);

CREATE TABLE repository_manifests (
  repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
  digest     TEXT    NOT NULL REFERENCES manifests (digest),
  linked     INTEGER NOT NULL,
  PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_manifests_by_digest ON repository_manifests (digest);

-- A tag names a manifest of its own repository, and the database holds it so.
CREATE TABLE tags (
  repository INTEGER NOT NULL,
  name       TEXT    NOT NULL,
  digest     TEXT    NOT NULL,
  updated    INTEGER NOT NULL,
  checked    INTEGER NOT NULL, -- when the upstream last said that this is what the tag names
  PRIMARY KEY (repository, name),
  FOREIGN KEY (repository, digest) REFERENCES repository_manifests (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_manifest ON tags (repository, digest);

-- Every move of a tag, so that what a run changed can be brought back.
CREATE TABLE tag_history (
  id         INTEGER PRIMARY KEY,
  repository INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
  name       TEXT    NOT NULL,
  was        TEXT    NOT NULL, -- '' when the tag did not exist
  became     TEXT    NOT NULL, -- '' when the tag was deleted
  moved      INTEGER NOT NULL,
  run        TEXT    NOT NULL  -- '' for a push or a delete
) STRICT;
CREATE INDEX tag_history_by_tag ON tag_history (repository, name, id);
CREATE INDEX tag_history_by_run ON tag_history (run) WHERE run <> '';

-- A run's rows below go when it ends; a committed run stays, since tag_history names it.
CREATE TABLE runs (
  id        TEXT    NOT NULL PRIMARY KEY,
  name      TEXT    NOT NULL,
  started   INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  committed INTEGER NOT NULL -- 0 while it is open
) STRICT, WITHOUT ROWID;

-- Repositories by name: a run that is aborted must not have made any.
CREATE TABLE run_blobs (
  run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  repository TEXT NOT NULL,
  digest     TEXT NOT NULL REFERENCES blobs (digest),
  PRIMARY KEY (run, repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_blobs_by_digest ON run_blobs (digest);

CREATE TABLE run_manifests (
  run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  repository TEXT NOT NULL,
  digest     TEXT NOT NULL REFERENCES manifests (digest),
  PRIMARY KEY (run, repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_manifests_by_digest ON run_manifests (digest);

CREATE TABLE run_tags (
  run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  repository TEXT NOT NULL,
  name       TEXT NOT NULL,
  digest     TEXT NOT NULL,
  PRIMARY KEY (run, repository, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  name          TEXT    NOT NULL PRIMARY KEY,
  role          TEXT    NOT NULL,
  password_hash BLOB    NOT NULL,
  created       INTEGER NOT NULL,
  updated       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
  name  TEXT NOT NULL PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
