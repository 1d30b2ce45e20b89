-- Our own memory: never under Alembic, left out of verification and fingerprints (docs/ARCHITECTURE.md).
-- Every statement can be run again.
CREATE SCHEMA IF NOT EXISTS rollout;
REVOKE ALL ON SCHEMA rollout FROM PUBLIC;

-- One row a run. `record` is the run's JSON; `hash` = sha256(previous_hash || record), so that an edited history shows.
CREATE TABLE IF NOT EXISTS rollout.runs (
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        text NOT NULL UNIQUE,
    command       text NOT NULL,
    started_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    from_revision text,
    to_revision   text,
    ok            boolean,
    exit_code     integer,
    record        text,
    previous_hash text,
    hash          text
);

-- One row for each applied revision: without it a downgrade refuses, because it cannot know what was there before.
-- `transaction_id` tells the rows that the upgrade itself made (their xmin) from those that people entered since;
-- `snapshot` tells the users that it saw from those whose sign-up waited for its locks. From `number` (its place in the
-- history, from 1) on: what a checkout that does not know the revision needs to explain it, and to take it back.
CREATE TABLE IF NOT EXISTS rollout.applied_revisions (
    revision    text PRIMARY KEY,
    family      text NOT NULL,
    file_name   text NOT NULL,
    file_sha256 text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction_id bigint NOT NULL DEFAULT txid_current(),
    snapshot    txid_snapshot NOT NULL DEFAULT txid_current_snapshot(),
    number      integer,
    down_revision text,
    summary     text,
    tool_version text,
    downgrade_sql text
);

-- Objects of a revision that were there before it ran: never made, never dropped.
CREATE TABLE IF NOT EXISTS rollout.preexisting_objects (
    object      text PRIMARY KEY,
    revision    text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Rows that an import could not take, whole, with every reason. `resolved_by`: the run that took the row, or put it here
-- anew; open without one.
CREATE TABLE IF NOT EXISTS rollout.quarantine (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id         text NOT NULL,
    table_name     text NOT NULL,
    source_key     text,
    reasons        text[] NOT NULL,
    message        text NOT NULL,
    source_row     jsonb NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_by    text
);
CREATE INDEX IF NOT EXISTS ix_quarantine_run_id ON rollout.quarantine (run_id, table_name);

-- What an import run wrote: what was there before an update, and a hash of the row as the run left it (an edit shows).
CREATE TABLE IF NOT EXISTS rollout.import_changes (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    run_id     text NOT NULL,
    table_name text NOT NULL,
    row_key    text NOT NULL,
    action     text NOT NULL CHECK (action IN ('insert', 'update', 'seen')),
    previous   jsonb,
    content    bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_import_changes_table_name ON rollout.import_changes (table_name, run_id);
