-- What clients of all daemons asked for and did not get, see registry/misses, and when that list was last cleared.
CREATE TABLE misses (
  repository TEXT NOT NULL,
  reference TEXT NOT NULL,
  count BIGINT NOT NULL,
  first BIGINT NOT NULL,
  last BIGINT NOT NULL,
  "user" TEXT NOT NULL,
  address TEXT NOT NULL,
  PRIMARY KEY (repository, reference)
);
CREATE TABLE misses_cleared (
  at BIGINT NOT NULL
);
INSERT INTO misses_cleared (at) VALUES (0);
