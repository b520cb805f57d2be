DROP TRIGGER api_keys_updated;
CREATE TRIGGER api_keys_updated
AFTER UPDATE OF id, organization_id, project_id, environment_id, name, key_hash, scopes, requests_per_minute,
    expires_at, revoked_at ON api_keys
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'identity'; END;

DROP INDEX api_keys_previous;
ALTER TABLE api_keys DROP COLUMN previous_expires_at;
ALTER TABLE api_keys DROP COLUMN previous_key_hash;
ALTER TABLE api_keys DROP COLUMN restrictions;
