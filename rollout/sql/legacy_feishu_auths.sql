-- The older sign-in table that some production databases have already. Sample data only.
DO $uuid$
BEGIN
    -- Built in since PostgreSQL 13; version 12 has it in pgcrypto.
    IF to_regprocedure('gen_random_uuid()') IS NULL THEN
        CREATE EXTENSION pgcrypto;
    END IF;
END
$uuid$;
CREATE TABLE feishu_auths (
    id               uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id          uuid NOT NULL,
    open_id          varchar(128) NOT NULL,
    union_id         varchar(128),
    access_token     text,
    refresh_token    text,
    token_expires_at timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    UNIQUE (user_id),
    UNIQUE (open_id),
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
