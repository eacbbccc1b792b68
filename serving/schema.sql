CREATE TABLE IF NOT EXISTS runs (
  id VARCHAR NOT NULL,
  tenant VARCHAR NOT NULL,
  user VARCHAR NOT NULL,
  thread VARCHAR NOT NULL,
  status VARCHAR NOT NULL,
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
  PRIMARY KEY (id)
);

CREATE INDEX IF NOT EXISTS runs_by_owner ON runs (tenant, user, started_at);

CREATE INDEX IF NOT EXISTS runs_by_status ON runs (status, started_at);

CREATE INDEX IF NOT EXISTS runs_by_thread ON runs (thread, started_at);

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

CREATE INDEX IF NOT EXISTS threads_by_owner ON threads (tenant, user, updated_at);

CREATE TABLE IF NOT EXISTS messages (
  thread VARCHAR NOT NULL,
  number INTEGER NOT NULL,
  role VARCHAR NOT NULL,
  content VARCHAR NOT NULL,
  status VARCHAR NOT NULL,
  run VARCHAR NOT NULL,
  citations VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL,
  PRIMARY KEY (thread, number),
  FOREIGN KEY(thread) REFERENCES threads (id) ON DELETE CASCADE
);
