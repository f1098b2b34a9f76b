-- Whether pull-through alone made the link of a blob. What it brought, and nothing else, is removed together with the
-- image that is evicted. What was there before this was recorded counts as pushed, and is left to collection.
ALTER TABLE repository_blobs ADD COLUMN pulled BIGINT NOT NULL DEFAULT 0;
CREATE INDEX repository_blobs_pulled ON repository_blobs (digest) WHERE pulled = 1;
