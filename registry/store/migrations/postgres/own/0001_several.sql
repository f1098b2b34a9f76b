-- What several daemons share, see registry/store/leases. A daemon is the id of a row of daemons, which package postgres keeps: what
-- a daemon without a row holds is free.

-- Blobs whose rows were deleted. seq differs for each removal; done is 0 until the object is certainly gone.
CREATE TABLE condemned (
  digest TEXT NOT NULL PRIMARY KEY,
  seq BIGINT NOT NULL,
  daemon TEXT NOT NULL,
  at BIGINT NOT NULL,
  done BIGINT NOT NULL
);
CREATE SEQUENCE condemned_seq;
CREATE INDEX condemned_open ON condemned (at) WHERE done = 0;

-- When clients were told that a blob exists, and which manifests are expected.
CREATE TABLE checked (
  digest TEXT NOT NULL PRIMARY KEY,
  at BIGINT NOT NULL
);
CREATE TABLE expected (
  digest TEXT NOT NULL,
  repository TEXT NOT NULL,
  last BIGINT NOT NULL,
  count BIGINT NOT NULL,
  PRIMARY KEY (digest, repository)
);

-- Upload sessions. files is 1 from the first byte on.
CREATE TABLE uploads (
  id TEXT NOT NULL PRIMARY KEY,
  repository TEXT NOT NULL,
  "user" TEXT NOT NULL,
  created BIGINT NOT NULL,
  used BIGINT NOT NULL,
  files BIGINT NOT NULL
);
CREATE INDEX uploads_by_user ON uploads ("user", files, used);

-- What one daemon has alone: an upload that a request uses, a run that is being committed.
CREATE TABLE claims (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  daemon TEXT NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE INDEX claims_by_daemon ON claims (daemon);

-- The links of blobs that are deleted while a run is being committed, by whichever daemon.
CREATE TABLE lost_links (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  repository BIGINT NOT NULL,
  digest TEXT NOT NULL
);
CREATE FUNCTION note_lost_links() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM claims WHERE kind = 'commit') THEN
    INSERT INTO lost_links (repository, digest) SELECT repository, digest FROM gone;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER note_lost_links AFTER DELETE ON repository_blobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note_lost_links();
