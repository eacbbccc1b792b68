CREATE TABLE checkpoints (
  run TEXT COLLATE "C" NOT NULL,
  namespace TEXT COLLATE "C" NOT NULL,
  checkpoint TEXT COLLATE "C" NOT NULL,
  parent TEXT COLLATE "C" NOT NULL,
  kind TEXT COLLATE "C" NOT NULL,
  body BYTEA NOT NULL,
  metadata BYTEA NOT NULL,
  PRIMARY KEY (run, namespace, checkpoint)
);

CREATE TABLE checkpointwrites (
  run TEXT COLLATE "C" NOT NULL,
  namespace TEXT COLLATE "C" NOT NULL,
  checkpoint TEXT COLLATE "C" NOT NULL,
  task TEXT COLLATE "C" NOT NULL,
  number BIGINT NOT NULL,
  channel TEXT COLLATE "C" NOT NULL,
  kind TEXT COLLATE "C" NOT NULL,
  body BYTEA NOT NULL,
  path TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (run, namespace, checkpoint, task, number)
);

CREATE TABLE events (
  run TEXT COLLATE "C" NOT NULL,
  first BIGINT NOT NULL,
  last BIGINT NOT NULL,
  body BYTEA NOT NULL,
  PRIMARY KEY (run, first)
);

CREATE TABLE feedback (
  tenant TEXT COLLATE "C" NOT NULL,
  "user" TEXT COLLATE "C" NOT NULL,
  run TEXT COLLATE "C" NOT NULL,
  rating BIGINT NOT NULL,
  reason TEXT COLLATE "C" NOT NULL,
  created_at TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, "user", run)
);

CREATE TABLE idempotency (
  tenant TEXT COLLATE "C" NOT NULL,
  "user" TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  request TEXT COLLATE "C" NOT NULL,
  made TEXT COLLATE "C" NOT NULL,
  created_at TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, "user", key)
);

CREATE INDEX idempotency_by_age ON idempotency (created_at);

CREATE TABLE jobitems (
  job TEXT COLLATE "C" NOT NULL,
  number BIGINT NOT NULL,
  name TEXT COLLATE "C" NOT NULL,
  content TEXT COLLATE "C" NOT NULL,
  document TEXT COLLATE "C" NOT NULL,
  status TEXT COLLATE "C" NOT NULL,
  error TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (job, number)
);

CREATE INDEX jobitems_by_document ON jobitems (document);

CREATE INDEX jobitems_open ON jobitems (content) WHERE status <> 'done';

CREATE TABLE jobs (
  id TEXT COLLATE "C" NOT NULL,
  tenant TEXT COLLATE "C" NOT NULL,
  "user" TEXT COLLATE "C" NOT NULL,
  kind TEXT COLLATE "C" NOT NULL,
  status TEXT COLLATE "C" NOT NULL,
  done BIGINT NOT NULL,
  total BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  error TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  created_at TEXT COLLATE "C" NOT NULL,
  updated_at TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX jobs_by_owner ON jobs (tenant, "user", id);

CREATE INDEX jobs_unfinished ON jobs (status) WHERE status IN ('queued', 'running');

CREATE TABLE keys (
  id TEXT COLLATE "C" NOT NULL,
  prefix TEXT COLLATE "C" NOT NULL,
  salt BYTEA NOT NULL,
  hash BYTEA NOT NULL,
  tenant TEXT COLLATE "C" NOT NULL,
  "user" TEXT COLLATE "C" NOT NULL,
  role TEXT COLLATE "C" NOT NULL,
  created_at TEXT COLLATE "C" NOT NULL,
  expires_at TEXT COLLATE "C",
  revoked_at TEXT COLLATE "C",
  PRIMARY KEY (id),
  UNIQUE (prefix)
);

CREATE TABLE leases (
  name TEXT COLLATE "C" NOT NULL,
  token BIGINT NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  PRIMARY KEY (name)
);

CREATE TABLE runs (
  id TEXT COLLATE "C" NOT NULL,
  tenant TEXT COLLATE "C" NOT NULL,
  "user" TEXT COLLATE "C" NOT NULL,
  thread TEXT COLLATE "C" NOT NULL,
  status TEXT COLLATE "C" NOT NULL,
  background BIGINT NOT NULL,
  process TEXT COLLATE "C" NOT NULL,
  started_at TEXT COLLATE "C" NOT NULL,
  finished_at TEXT COLLATE "C",
  model TEXT COLLATE "C" NOT NULL,
  outcome TEXT COLLATE "C" NOT NULL,
  finish TEXT COLLATE "C" NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  model_calls BIGINT NOT NULL,
  tool_calls BIGINT NOT NULL,
  verdicts TEXT COLLATE "C" NOT NULL,
  notes TEXT COLLATE "C" NOT NULL,
  caller_user TEXT COLLATE "C" NOT NULL,
  metadata TEXT COLLATE "C" NOT NULL,
  error TEXT COLLATE "C" NOT NULL,
  answer BIGINT NOT NULL,
  cancelling BIGINT NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX runs_by_owner ON runs (tenant, "user", started_at);

CREATE INDEX runs_by_thread ON runs (thread, started_at);

CREATE UNIQUE INDEX runs_one_active_per_thread ON runs (thread) WHERE thread <> '' AND status IN ('queued', 'running', 'waiting');

CREATE INDEX runs_unfinished ON runs (status) WHERE finished_at IS NULL;

CREATE TABLE threads (
  id TEXT COLLATE "C" NOT NULL,
  tenant TEXT COLLATE "C" NOT NULL,
  "user" TEXT COLLATE "C" NOT NULL,
  title TEXT COLLATE "C" NOT NULL,
  created_at TEXT COLLATE "C" NOT NULL,
  updated_at TEXT COLLATE "C" NOT NULL,
  summary TEXT COLLATE "C" NOT NULL,
  summary_upto BIGINT NOT NULL,
  PRIMARY KEY (id)
);

CREATE INDEX threads_by_owner ON threads (tenant, "user", id);

CREATE TABLE messages (
  thread TEXT COLLATE "C" NOT NULL,
  number BIGINT NOT NULL,
  id TEXT COLLATE "C" NOT NULL,
  role TEXT COLLATE "C" NOT NULL,
  content TEXT COLLATE "C" NOT NULL,
  status TEXT COLLATE "C" NOT NULL,
  run TEXT COLLATE "C" NOT NULL,
  citations TEXT COLLATE "C" NOT NULL,
  created_at TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (thread, number),
  FOREIGN KEY(thread) REFERENCES threads (id) ON DELETE CASCADE
);

CREATE TABLE documents (
  tenant TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, title TEXT NOT NULL,
  sha256 TEXT NOT NULL, bytes BIGINT NOT NULL, passages BIGINT NOT NULL, updated_at TEXT COLLATE "C" NOT NULL,
  url TEXT NOT NULL, PRIMARY KEY (tenant, path), UNIQUE (tenant, id));
CREATE TABLE documents_begun (
  tenant TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, path));

ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON events USING (current_setting('parley.tenant', true) = 'every' OR EXISTS (SELECT 1 FROM runs WHERE runs.id = events.run));

ALTER TABLE feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE feedback FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON feedback USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

ALTER TABLE idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON idempotency USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

ALTER TABLE jobitems ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobitems FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON jobitems USING (current_setting('parley.tenant', true) = 'every' OR EXISTS (SELECT 1 FROM jobs WHERE jobs.id = jobitems.job));

ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON jobs USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

ALTER TABLE keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON keys USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

ALTER TABLE runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE runs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON runs USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

ALTER TABLE threads ENABLE ROW LEVEL SECURITY;
ALTER TABLE threads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON threads USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE messages FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON messages USING (current_setting('parley.tenant', true) = 'every' OR EXISTS (SELECT 1 FROM threads WHERE threads.id = messages.thread));

ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON documents USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

ALTER TABLE documents_begun ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents_begun FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON documents_begun USING (current_setting('parley.tenant', true) = 'every' OR 'tenant:' || tenant = current_setting('parley.tenant', true));

CREATE FUNCTION folded(said text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN replace(lower(upper(said COLLATE "und-x-icu")), 'ς', 'σ') COLLATE "C";
