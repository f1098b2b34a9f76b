-- The logins of the console of all daemons, see registry/store/sharedrows. token is the SHA-256 of a cookie's value, password that
-- of the hash of the user's password.
CREATE TABLE logins (
  token BYTEA NOT NULL PRIMARY KEY,
  "user" TEXT NOT NULL,
  password BYTEA NOT NULL,
  notice TEXT NOT NULL,
  began BIGINT NOT NULL,
  used BIGINT NOT NULL
);
CREATE INDEX logins_by_user ON logins ("user", used);
CREATE INDEX logins_by_use ON logins (used);
