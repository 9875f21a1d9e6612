-- Statements that PostgreSQL needs in other words than queries.sql has; the rest is the same (store/dialect.py).

-- doctor_tables -- The tables that are there.
SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name;

-- doctor_sizes -- How many bytes each table takes, with its indexes.
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind = 'r' ORDER BY 2 DESC;

-- beacon_is_lit -- Whether a session holds the lock of a processor's slot.
SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid = CAST(CAST(:space AS bigint) AS oid) AND objid = CAST(CAST(:slot AS bigint) AS oid));

-- reachable -- Ids of the stages that can be reached from one, itself first, nearer ones before farther ones.
WITH RECURSIVE reached (id) AS (
    SELECT CAST(:stage_id AS TEXT)
    UNION
    SELECT json_extract(next.value, '$[0]') FROM reached JOIN stage ON stage.id = reached.id
    JOIN LATERAL (SELECT value FROM json_each(stage.spec, '$.edges') AS edge
                  UNION ALL SELECT value FROM json_each(stage.spec, '$.children') AS child) AS next ON true
)
SELECT id FROM reached;

-- stages -- Several stage rows of this workflow. Primary key, once for each id.
SELECT s.id, s.base_id, s.ref_id, s.ordinal, s.spec, s.status, s.generation, s.activation, s.fired, s.sent, s.depth,
       s.softly_failed, s.triggers, s.inherited, s.context, s.outputs, s.error, s.started_at, s.ended_at,
       s.waits, s.phase, s.added, s.closed, s.via
FROM json_each(:ids) AS wanted CROSS JOIN stage AS s ON s.id = wanted.value
WHERE s.workflow_id = :workflow_id ORDER BY CAST(wanted.key AS bigint);

-- stages_and_activations -- The rows of several stages with their further activations, in the order asked for.
SELECT s.id, s.base_id, s.ref_id, s.ordinal, s.spec, s.status, s.generation, s.activation, s.fired, s.sent, s.depth,
       s.softly_failed, s.triggers, s.inherited, s.context, s.outputs, s.error, s.started_at, s.ended_at,
       s.waits, s.phase, s.added, s.closed, s.via
FROM json_each(:ids) AS wanted JOIN stage AS s ON s.id = wanted.value OR s.base_id = wanted.value AND s.activation > 1
ORDER BY s.activation > 1, CAST(wanted.key AS bigint);

-- schema_objects -- Nothing: whoever may make triggers on a server is trusted by it, and others cannot hand one in as a file.
SELECT '', '', '', '' WHERE false;

-- lock_free_head -- The header row of a workflow, locked, unless another transaction has locked it.
SELECT id, application, name, status, paused, ending, cancels, late_failures, active, sequence, jumps, error, context,
       created_at, started_at, ended_at, lane, slots, keeps_waiting, slot
FROM workflow WHERE id = :workflow_id FOR NO KEY UPDATE SKIP LOCKED;
