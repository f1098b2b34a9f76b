-- The hostname of the registry, which all daemons of a database have in their configurations, see registry/store/sharedrows.
CREATE TABLE registry_hostname (
  one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
  hostname TEXT NOT NULL
);
