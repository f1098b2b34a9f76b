-- Eviction asks of each manifest whether a run under way tags it.
CREATE INDEX run_tags_by_digest ON run_tags (digest);
