DROP TRIGGER api_keys_changed ON api_keys;
CREATE TRIGGER api_keys_changed
AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, organization_id, project_id, environment_id, name, key_hash, scopes, requests_per_minute,
    expires_at, revoked_at ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('identity');

DROP INDEX api_keys_previous;
ALTER TABLE api_keys DROP COLUMN previous_expires_at;
ALTER TABLE api_keys DROP COLUMN previous_key_hash;
ALTER TABLE api_keys DROP COLUMN restrictions;
