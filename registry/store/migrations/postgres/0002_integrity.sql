-- Small things that jobs remember between two runs: where scrub has got to.
CREATE TABLE meta (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

-- Where what a repository holds was fetched from, so that it can be fetched again. By name, as the rows of
-- runs are: a run that is aborted must not have made a repository, and where it looked is true all the same.
CREATE TABLE sources (
  repository TEXT    NOT NULL,
  registry   TEXT    NOT NULL, -- host[:port]
  path       TEXT    NOT NULL, -- the repository there
  pulled     BIGINT NOT NULL, -- 1: by pull-through, 0: by a run
  seen       BIGINT NOT NULL, -- when something last came from there
  PRIMARY KEY (repository, registry, path)
);

-- Blobs whose file is damaged or gone. Such a blob has no row in blobs, so that nothing serves it, nothing
-- counts on it, and whoever pushes or syncs it again is let.
CREATE TABLE quarantine (
  digest TEXT    NOT NULL PRIMARY KEY,
  size   BIGINT NOT NULL,
  cause  TEXT    NOT NULL, -- for people
  since  BIGINT NOT NULL
);

-- The links that a blob had, for when it comes back.
CREATE TABLE quarantine_links (
  digest     TEXT    NOT NULL REFERENCES quarantine (digest) ON DELETE CASCADE,
  repository BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
  linked     BIGINT NOT NULL,
  PRIMARY KEY (digest, repository)
);
CREATE INDEX quarantine_links_by_repository ON quarantine_links (repository);

-- Whichever way a blob comes back (pushed, synced, pulled through, fetched by scrub), it leaves quarantine.
CREATE FUNCTION blob_is_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM quarantine WHERE digest = NEW.digest) THEN
    INSERT INTO repository_blobs (repository, digest, linked)
      SELECT repository, digest, linked FROM quarantine_links WHERE digest = NEW.digest
      ON CONFLICT DO NOTHING;
    DELETE FROM quarantine WHERE digest = NEW.digest;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER blob_is_back AFTER INSERT ON blobs FOR EACH ROW EXECUTE FUNCTION blob_is_back();
