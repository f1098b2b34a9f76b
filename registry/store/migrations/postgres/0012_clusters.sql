-- The clusters that are attached, and the manifests that they need: these are neither deleted nor evicted.
CREATE TABLE clusters (
  id      TEXT    NOT NULL PRIMARY KEY, -- its own
  name    TEXT    NOT NULL,             -- for people
  "user"    TEXT    NOT NULL,             -- that may say what it runs; '': administrators alone
  facts   TEXT    NOT NULL,             -- JSON of package registry/retain
  updated BIGINT NOT NULL
);

CREATE TABLE cluster_manifests (
  digest  TEXT NOT NULL,
  cluster TEXT NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
  PRIMARY KEY (digest, cluster)
);
CREATE INDEX cluster_manifests_by_cluster ON cluster_manifests (cluster);
