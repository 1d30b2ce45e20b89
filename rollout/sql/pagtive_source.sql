-- The Pagtive source database as most installations have it: uuid keys, times without zone, jsonb. Its application kept
-- the tables consistent itself: there are no foreign keys. Sample data only.
CREATE TABLE users (
    id                       uuid PRIMARY KEY,
    email                    text,
    name                     text,
    username                 text,
    status                   smallint DEFAULT 1,
    role                     text DEFAULT 'user',
    agreed_agreement_version text,
    email_verified           timestamp,
    image                    text,
    last_login               timestamp,
    twitter_url              text,
    created_at               timestamp DEFAULT now(),
    updated_at               timestamp DEFAULT now()
);

CREATE TABLE projects (
    id                  uuid PRIMARY KEY,
    user_id             uuid,
    project_name        text,
    project_description text,
    project_style       text,
    global_style_code   text,
    pages               jsonb,
    is_public           boolean NOT NULL DEFAULT false,
    style_tags          jsonb[] NOT NULL DEFAULT '{}',
    batch_id            text,
    batch_index         integer,
    is_featured         boolean NOT NULL DEFAULT false,
    is_published        boolean NOT NULL DEFAULT false,
    created_at          timestamp DEFAULT now(),
    updated_at          timestamp DEFAULT now()
);
CREATE INDEX projects_user_id ON projects (user_id);

CREATE TABLE project_details (
    project_id      uuid,
    page_id         integer,
    script          text,
    styles          text,
    html            text,
    images          jsonb,
    mermaid_content text,
    "versionId"     uuid,
    created_at      timestamp DEFAULT now(),
    updated_at      timestamp DEFAULT now()
);
CREATE INDEX project_details_project_id ON project_details (project_id, page_id);

CREATE TABLE llmlog (
    id                      uuid PRIMARY KEY,
    user_id                 uuid,
    project_id              uuid,
    page_id                 integer,
    provider                text,
    model                   text,
    scenario                text,
    request_timestamp       timestamp DEFAULT now(),
    request_prompts         jsonb,
    request_config          jsonb,
    response_timestamp      timestamp,
    response_content        text,
    response_error          text,
    usage_prompt_tokens     integer,
    usage_completion_tokens integer,
    usage_total_tokens      integer,
    duration_ms             integer,
    status                  text,
    temporary_page_id       text
);

CREATE TABLE invitation_codes (
    id              uuid PRIMARY KEY,
    code            text,
    status          text,
    created_at      timestamp DEFAULT now(),
    expires_at      timestamp,
    used_at         timestamp,
    used_by_user_id uuid
);
