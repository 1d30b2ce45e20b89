-- An older installation: text keys and page ids, times with zone, json, email_verified as a flag.
ALTER TABLE users
    ALTER id TYPE text, ALTER email_verified TYPE boolean USING NULL, ALTER last_login TYPE timestamptz,
    ALTER created_at TYPE timestamptz, ALTER updated_at TYPE timestamptz;
ALTER TABLE projects ALTER style_tags DROP DEFAULT;
ALTER TABLE projects
    ALTER id TYPE text, ALTER user_id TYPE text, ALTER pages TYPE json, ALTER style_tags TYPE json USING '[]'::json,
    ALTER created_at TYPE timestamptz, ALTER updated_at TYPE timestamptz;
ALTER TABLE project_details
    ALTER project_id TYPE text, ALTER page_id TYPE text, ALTER images TYPE json, ALTER "versionId" TYPE text,
    ALTER created_at TYPE timestamptz, ALTER updated_at TYPE timestamptz;
ALTER TABLE llmlog
    ALTER id TYPE text, ALTER user_id TYPE text, ALTER project_id TYPE text, ALTER page_id TYPE text,
    ALTER request_prompts TYPE json, ALTER request_config TYPE json,
    ALTER request_timestamp TYPE timestamptz, ALTER response_timestamp TYPE timestamptz;
ALTER TABLE invitation_codes
    ALTER id TYPE text, ALTER used_by_user_id TYPE text,
    ALTER created_at TYPE timestamptz, ALTER expires_at TYPE timestamptz, ALTER used_at TYPE timestamptz;
