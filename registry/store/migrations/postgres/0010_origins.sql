-- What a tag is a mirror of, as the run that set it recorded it. A row counts while the tag names its manifest: so a
-- rollback brings back what counted before, and what is deleted counts no more.
CREATE TABLE origins (
  repository BIGINT NOT NULL,
  digest     TEXT    NOT NULL,
  tag        TEXT    NOT NULL,
  origin     TEXT    NOT NULL, -- as the image set or the release names it
  about      TEXT    NOT NULL, -- JSON of package mirror
  recorded   BIGINT NOT NULL,
  PRIMARY KEY (repository, digest, tag, origin),
  FOREIGN KEY (repository, digest) REFERENCES repository_manifests (repository, digest) ON DELETE CASCADE
);

CREATE TABLE run_origins (
  run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  repository TEXT NOT NULL,
  tag        TEXT NOT NULL,
  origin     TEXT NOT NULL,
  about      TEXT NOT NULL,
  PRIMARY KEY (run, repository, tag, origin)
);
