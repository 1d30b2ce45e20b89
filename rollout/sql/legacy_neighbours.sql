-- Other people's objects in a legacy database: sixteen tables of every kind that an upgrade must leave alone, their function,
-- triggers (four of them on users, one in each enabled state), views, policy, grants. Sample data only.
CREATE TYPE ticket_priority AS ENUM ('low', 'normal', 'high', 'urgent');
CREATE DOMAIN folder_name AS text CHECK (VALUE <> '');

CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION update_updated_at_column() IS '更新 updated_at';

-- 1: written by a deferred constraint trigger on users.
CREATE TABLE user_audit (
    id         bigserial PRIMARY KEY,
    user_id    uuid,
    action     text NOT NULL,
    old_row    jsonb,
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO user_audit (action, changed_at)
SELECT 'imported batch ' || n, timestamptz '2019-03-01 00:00+00' + n * interval '1 day' FROM generate_series(1, 20) AS n;

CREATE FUNCTION record_user_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO user_audit (user_id, action, old_row) VALUES (OLD.id, TG_NAME, to_jsonb(OLD));
    RETURN NULL;
END
$$;
CREATE FUNCTION normalise_phone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.phone_number = replace(NEW.phone_number, ' ', '');
    RETURN NEW;
END
$$;

CREATE TRIGGER users_updated_at BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE CONSTRAINT TRIGGER users_audit AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION record_user_change();
CREATE TRIGGER users_crm_sync AFTER UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION record_user_change();
ALTER TABLE users DISABLE TRIGGER users_crm_sync;
CREATE TRIGGER users_phone BEFORE UPDATE OF phone_number ON users
    FOR EACH ROW EXECUTE FUNCTION normalise_phone();
ALTER TABLE users ENABLE ALWAYS TRIGGER users_phone;
CREATE TRIGGER users_replica_log AFTER UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION record_user_change();
ALTER TABLE users ENABLE REPLICA TRIGGER users_replica_log;

-- 2: foreign keys to users and cases, an enum, a partial index, comments.
CREATE TABLE support_tickets (
    id         serial PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users (id),
    case_id    uuid REFERENCES cases (id) ON DELETE SET NULL,
    priority   ticket_priority NOT NULL DEFAULT 'normal',
    subject    text NOT NULL,
    closed_at  timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX support_tickets_open ON support_tickets (user_id) WHERE closed_at IS NULL;
CREATE TRIGGER support_tickets_updated_at BEFORE UPDATE ON support_tickets
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
COMMENT ON TABLE support_tickets IS '客服工单';
COMMENT ON COLUMN support_tickets.priority IS '优先级';

-- 3: a foreign key to users that cascades, an expression index.
CREATE TABLE user_devices (
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    device     varchar(100) NOT NULL,
    details    jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, device)
);
CREATE INDEX user_devices_platform ON user_devices (lower(details ->> 'platform'));

-- 4: row security.
CREATE TABLE internal_notes (
    id      serial PRIMARY KEY,
    author  text NOT NULL,
    note    text,
    secret  boolean NOT NULL DEFAULT false
);
ALTER TABLE internal_notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY internal_notes_of_author ON internal_notes USING (author = current_user OR NOT secret);
INSERT INTO internal_notes (author, note, secret)
SELECT 'clerk' || mod(n, 4), '备注 ' || n, mod(n, 3) = 0 FROM generate_series(1, 30) AS n;

-- 5 to 8: a partitioned table.
CREATE TABLE access_log (
    id        bigint GENERATED ALWAYS AS IDENTITY,
    logged_at timestamptz NOT NULL,
    path      text NOT NULL,
    status    smallint NOT NULL
) PARTITION BY RANGE (logged_at);
CREATE TABLE access_log_2023 PARTITION OF access_log FOR VALUES FROM ('2023-01-01 00:00+00') TO ('2024-01-01 00:00+00');
CREATE TABLE access_log_2024 PARTITION OF access_log FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2025-01-01 00:00+00');
CREATE TABLE access_log_default PARTITION OF access_log DEFAULT;
CREATE INDEX access_log_logged_at ON access_log (logged_at);
INSERT INTO access_log (logged_at, path, status)
SELECT timestamptz '2022-06-01 00:00+00' + n * interval '9 days', '/cases/' || n, 200 + 100 * mod(n, 3)
FROM generate_series(1, 100) AS n;

-- 9: names that need quotes.
CREATE TABLE "CrmContacts" (
    "Id"       serial PRIMARY KEY,
    "FullName" varchar(200) NOT NULL,
    "order"    integer
);
CREATE INDEX "Crm Contacts by name" ON "CrmContacts" ("FullName");
INSERT INTO "CrmContacts" ("FullName", "order") SELECT '联系人 ' || n, n FROM generate_series(1, 25) AS n;

-- 10: a generated column, a sequence of its own.
CREATE SEQUENCE invoice_number_seq START 1000 INCREMENT 7;
CREATE TABLE invoices (
    number     bigint PRIMARY KEY DEFAULT nextval('invoice_number_seq'),
    net        numeric(12, 2) NOT NULL CHECK (net >= 0),
    tax_rate   numeric(4, 3) NOT NULL DEFAULT 0.060,
    gross      numeric(12, 2) GENERATED ALWAYS AS (round(net * (1 + tax_rate), 2)) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER invoices_updated_at BEFORE UPDATE ON invoices
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
INSERT INTO invoices (net, created_at, updated_at)
SELECT n * 12.34, stamp, stamp
FROM generate_series(1, 40) AS n, LATERAL (SELECT timestamptz '2021-01-01 00:00+00' + n * interval '1 day' AS stamp) AS s;

-- 11: grants to everybody, one on a single column.
CREATE TABLE holiday_calendar (
    day  date PRIMARY KEY,
    name text NOT NULL,
    note text
);
GRANT SELECT ON holiday_calendar TO PUBLIC;
GRANT UPDATE (note) ON holiday_calendar TO PUBLIC;
INSERT INTO holiday_calendar (day, name) VALUES ('2024-01-01', '元旦'), ('2024-02-10', '春节'), ('2024-10-01', '国庆节');

-- 12
CREATE TABLE crm_sync_queue (
    id      serial PRIMARY KEY,
    payload json NOT NULL
);
INSERT INTO crm_sync_queue (payload) SELECT '{"n": 1,  "n": 2}' FROM generate_series(1, 5);

-- 13: a table that refers to itself, a domain, a deferrable key.
CREATE TABLE document_folders (
    id        integer PRIMARY KEY,
    parent_id integer REFERENCES document_folders (id) DEFERRABLE INITIALLY DEFERRED,
    name      folder_name NOT NULL
);
INSERT INTO document_folders SELECT n, nullif(n / 2, 0), '文件夹 ' || n FROM generate_series(1, 31) AS n;

-- 14: a foreign key to cases, bytes.
CREATE TABLE case_attachments (
    id       serial PRIMARY KEY,
    case_id  uuid REFERENCES cases (id) ON DELETE CASCADE,
    filename text NOT NULL,
    content  bytea
);
INSERT INTO case_attachments (filename, content)
SELECT '附件 ' || n || '.pdf', decode(md5(n::text), 'hex') FROM generate_series(1, 15) AS n;

-- 15
CREATE TABLE exchange_rates (
    currency char(3) NOT NULL,
    day      date NOT NULL,
    rate     double precision NOT NULL,
    valid    daterange,
    PRIMARY KEY (currency, day)
);
INSERT INTO exchange_rates
SELECT c, d::date, 6.5 + place / 7.0, daterange(d::date, d::date + 1)
FROM unnest(ARRAY['USD', 'EUR', 'HKD']) WITH ORDINALITY AS t (c, place),
     generate_series(timestamp '2024-01-01', timestamp '2024-01-20', interval '1 day') AS d;

-- 16: an identity column, an array.
CREATE TABLE sms_templates (
    id         integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    code       text NOT NULL UNIQUE,
    texts      text[] NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER sms_templates_updated_at BEFORE UPDATE ON sms_templates
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
INSERT INTO sms_templates (code, texts, updated_at)
SELECT 'T' || n, ARRAY['您的验证码是 …', 'line' || n], timestamptz '2020-05-05 05:05+00' FROM generate_series(1, 12) AS n;

CREATE VIEW active_users AS
    SELECT id, username, email, created_at FROM users WHERE status = 'ACTIVE';
CREATE VIEW user_case_counts AS
    SELECT u.id, u.username, count(c.id) AS cases
    FROM users AS u LEFT JOIN cases AS c ON c.assigned_to_user_id = u.id
    GROUP BY u.id, u.username;
CREATE MATERIALIZED VIEW monthly_case_totals AS
    SELECT date_trunc('month', created_at AT TIME ZONE 'Asia/Shanghai') AS month, count(*) AS cases, sum(case_amount) AS amount
    FROM cases GROUP BY 1;
CREATE UNIQUE INDEX monthly_case_totals_month ON monthly_case_totals (month);
GRANT SELECT ON active_users TO PUBLIC;
COMMENT ON VIEW active_users IS '在用账号';
