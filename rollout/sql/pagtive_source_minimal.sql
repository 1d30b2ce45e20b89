-- A small installation: without the optional columns and tables.
ALTER TABLE users DROP email_verified, DROP image, DROP last_login, DROP twitter_url;
DROP TABLE llmlog, invitation_codes;
