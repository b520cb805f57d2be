-- Calls, and why each went where it went: what the observations say already, under the names that people look for. As views
-- they can't say anything else, or twice, or for longer (docs/adr/0009).
DROP TABLE IF EXISTS request_logs;

CREATE VIEW IF NOT EXISTS request_logs AS
SELECT
    project_id,
    organization_id,
    environment_id,
    assumeNotNull(o.request_id) AS request_id,
    trace_id,
    start_time AS time,
    ifNull(key_id, '') AS key_id,
    operation,
    ifNull(model_requested, '') AS model_requested,
    status,
    ifNull(http_status, 0) AS http_status,
    ifNull(error_class, '') AS error_code,
    duration_us,
    first_token_us,
    input_tokens,
    output_tokens,
    cost,
    ifNull(user_id, '') AS user_id
FROM observations AS o FINAL
WHERE o.request_id IS NOT NULL;

DROP TABLE IF EXISTS routing_decisions;

CREATE VIEW IF NOT EXISTS routing_decisions AS
SELECT
    project_id,
    organization_id,
    environment_id,
    assumeNotNull(o.request_id) AS request_id,
    trace_id,
    start_time AS time,
    JSONExtractString(attributes['brokle.route']) AS route,
    JSONExtractString(attributes['brokle.routing.policy']) AS policy,
    ifNull(model_requested, '') AS model_requested,
    ifNull(provider, '') AS provider,
    ifNull(connection_id, '') AS connection_id,
    ifNull(model_served, '') AS model,
    JSONExtractString(attributes['brokle.routing.reason']) AS reason,
    attributes['brokle.routing.order'] AS candidates,
    attributes['brokle.routing.facts'] AS facts,
    arrayCount(step -> JSONExtractString(step, 'kind') = 'attempt', JSONExtractArrayRaw(steps)) AS attempts,
    duration_us
FROM observations AS o FINAL
WHERE o.request_id IS NOT NULL AND mapContains(attributes, 'brokle.routing.policy');
