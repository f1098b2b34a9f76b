-- In repository_manifests, pulled is 2 for what only pull-through brought and an administrator has pinned: it is not
-- evicted.
CREATE INDEX repository_manifests_pinned ON repository_manifests (repository, digest) WHERE pulled = 2;
