CREATE TABLE IF NOT EXISTS checkpoints (
  run VARCHAR NOT NULL,
  namespace VARCHAR NOT NULL,
  checkpoint VARCHAR NOT NULL,
  parent VARCHAR NOT NULL,
  kind VARCHAR NOT NULL,
  body BLOB NOT NULL,
  metadata BLOB NOT NULL,
  PRIMARY KEY (run, namespace, checkpoint)
)
 WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS checkpointwrites (
  run VARCHAR NOT NULL,
  namespace VARCHAR NOT NULL,
  checkpoint VARCHAR NOT NULL,
  task VARCHAR NOT NULL,
  number INTEGER NOT NULL,
  channel VARCHAR NOT NULL,
  kind VARCHAR NOT NULL,
  body BLOB NOT NULL,
  path VARCHAR NOT NULL,
  PRIMARY KEY (run, namespace, checkpoint, task, number)
)
 WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS events (
  run VARCHAR NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (run, first)
)
 WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS feedback (
  tenant VARCHAR NOT NULL,
  user VARCHAR NOT NULL,
  run VARCHAR NOT NULL,
  rating INTEGER NOT NULL,
  reason VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL,
  PRIMARY KEY (tenant, user, run)
)
 WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS idempotency (
  tenant VARCHAR NOT NULL,
  user VARCHAR NOT NULL,
  "key" VARCHAR NOT NULL,
  request VARCHAR NOT NULL,
  made VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL,
  PRIMARY KEY (tenant, user, "key")
)
 WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS idempotency_by_age ON idempotency (created_at);

CREATE TABLE IF NOT EXISTS jobitems (
  job VARCHAR NOT NULL,
  number INTEGER NOT NULL,
  name VARCHAR NOT NULL,
  content VARCHAR NOT NULL,
  document VARCHAR NOT NULL,
  status VARCHAR NOT NULL,
  error VARCHAR NOT NULL,
  PRIMARY KEY (job, number)
)
 WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS jobitems_by_document ON jobitems (document);

CREATE INDEX IF NOT EXISTS jobitems_open ON jobitems (content) WHERE status <> 'done';

CREATE TABLE IF NOT EXISTS jobs (
  id VARCHAR NOT NULL,
  tenant VARCHAR NOT NULL,
  user VARCHAR NOT NULL,
  kind VARCHAR NOT NULL,
  status VARCHAR NOT NULL,
  done INTEGER NOT NULL,
  total INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  error VARCHAR NOT NULL,
  version INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  created_at VARCHAR NOT NULL,
  updated_at VARCHAR NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (tenant, user, id);

CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (status) WHERE status IN ('queued', 'running');

CREATE TABLE IF NOT EXISTS keys (
  id VARCHAR NOT NULL,
  prefix VARCHAR NOT NULL,
  salt BLOB NOT NULL,
  hash BLOB NOT NULL,
  tenant VARCHAR NOT NULL,
  user VARCHAR NOT NULL,
  role VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL,
  expires_at VARCHAR,
  revoked_at VARCHAR,
  PRIMARY KEY (id),
  UNIQUE (prefix)
);

CREATE TABLE IF NOT EXISTS runs (
  id VARCHAR NOT NULL,
  tenant VARCHAR NOT NULL,
  user VARCHAR NOT NULL,
  thread VARCHAR NOT NULL,
  status VARCHAR NOT NULL,
  background INTEGER NOT NULL,
  process VARCHAR NOT NULL,
  started_at VARCHAR NOT NULL,
  finished_at VARCHAR,
  model VARCHAR NOT NULL,
  outcome VARCHAR NOT NULL,
  finish VARCHAR NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  model_calls INTEGER NOT NULL,
  tool_calls INTEGER NOT NULL,
  verdicts VARCHAR NOT NULL,
  notes VARCHAR NOT NULL,
  caller_user VARCHAR NOT NULL,
  metadata VARCHAR NOT NULL,
  error VARCHAR NOT NULL,
  answer INTEGER NOT NULL,
  cancelling INTEGER NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX IF NOT EXISTS runs_by_owner ON runs (tenant, user, started_at);

CREATE INDEX IF NOT EXISTS runs_by_thread ON runs (thread, started_at);

CREATE UNIQUE INDEX IF NOT EXISTS runs_one_active_per_thread ON runs (thread) WHERE thread <> '' AND status IN ('queued', 'running', 'waiting');

CREATE INDEX IF NOT EXISTS runs_unfinished ON runs (status) WHERE finished_at IS NULL;

CREATE TABLE IF NOT EXISTS threads (
  id VARCHAR NOT NULL,
  tenant VARCHAR NOT NULL,
  user VARCHAR NOT NULL,
  title VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL,
  updated_at VARCHAR NOT NULL,
  summary VARCHAR NOT NULL,
  summary_upto INTEGER NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX IF NOT EXISTS threads_by_owner ON threads (tenant, user, id);

CREATE TABLE IF NOT EXISTS messages (
  thread VARCHAR NOT NULL,
  number INTEGER NOT NULL,
  id VARCHAR NOT NULL,
  role VARCHAR NOT NULL,
  content VARCHAR NOT NULL,
  status VARCHAR NOT NULL,
  run VARCHAR NOT NULL,
  citations VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL,
  PRIMARY KEY (thread, number),
  FOREIGN KEY(thread) REFERENCES threads (id) ON DELETE CASCADE
);
