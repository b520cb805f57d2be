-- What keys are restricted to (a JSON object of lists), and the secret that each had before it was last rotated, which goes on
-- until `previous_expires_at`.

ALTER TABLE api_keys ADD COLUMN restrictions TEXT NOT NULL DEFAULT '{}';
ALTER TABLE api_keys ADD COLUMN previous_key_hash BYTEA CHECK (length(previous_key_hash) = 32);
ALTER TABLE api_keys ADD COLUMN previous_expires_at TIMESTAMPTZ;
CREATE UNIQUE INDEX api_keys_previous ON api_keys (previous_key_hash) WHERE previous_key_hash IS NOT NULL;

DROP TRIGGER api_keys_changed ON api_keys;
CREATE TRIGGER api_keys_changed
AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, organization_id, project_id, environment_id, name, key_hash, scopes, requests_per_minute,
    expires_at, revoked_at, restrictions, previous_key_hash, previous_expires_at ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('identity');
