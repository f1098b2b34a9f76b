-- Which repositories an account may use: glob patterns, one a line; '' for all.
ALTER TABLE users ADD COLUMN repositories TEXT NOT NULL DEFAULT '';

-- Whether a manifest came to a repository by pull-through and by nothing else, and when it was last asked
-- for there (0: not since it came). What was there before this was recorded counts as pushed.
ALTER TABLE repository_manifests ADD COLUMN pulled BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repository_manifests ADD COLUMN used BIGINT NOT NULL DEFAULT 0;
CREATE INDEX repository_manifests_by_use ON repository_manifests (used) WHERE pulled = 1;
