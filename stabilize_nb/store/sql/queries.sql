-- Every statement of the package, once. `-- name -- purpose` begins one; parameters are named.

-- head -- The header row of a workflow. Primary key.
SELECT id, application, name, status, paused, ending, cancels, late_failures, active, sequence, jumps, error, context,
       created_at, started_at, ended_at, lane, slots, keeps_waiting, slot
FROM workflow WHERE id = :workflow_id;

-- lock_head -- The same before a decision about the workflow: no other transaction decides before this one ends. Primary key.
SELECT id, application, name, status, paused, ending, cancels, late_failures, active, sequence, jumps, error, context,
       created_at, started_at, ended_at, lane, slots, keeps_waiting, slot
FROM workflow WHERE id = :workflow_id;

-- head_about -- What the header row keeps beside its state. Primary key.
SELECT about FROM workflow WHERE id = :workflow_id;

-- insert_workflow -- A new workflow.
INSERT INTO workflow (id, application, name, status, sequence, context, about, created_at, lane, slots, keeps_waiting)
VALUES (:id, :application, :name, :status, :sequence, :context, :about, :created_at, :lane, :slots, :keeps_waiting);

-- take_key -- A key is that of a new workflow, if it is that of none.
INSERT INTO start_key (key, workflow_id) VALUES (:key, :workflow_id) ON CONFLICT (key) DO NOTHING;

-- run_of_key -- The workflow that was started for a key. Primary keys.
SELECT w.id, w.application, w.name, w.context FROM start_key AS k JOIN workflow AS w ON w.id = k.workflow_id WHERE k.key = :key;

-- delete_start_keys_of -- Part of deleting workflows. Index start_key_of_workflow.
DELETE FROM start_key WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- permit -- A permit of a limit. Primary key.
SELECT name, number, at FROM permit WHERE name = :name AND number = :number;

-- last_permit -- The number of the last permit of a limit. Primary key.
SELECT coalesce(max(number), 0) FROM permit WHERE name = :name;

-- put_permit -- A body may begin at a time.
INSERT INTO permit (name, number, at) VALUES (:name, :number, :at) ON CONFLICT (name, number) DO UPDATE SET at = excluded.at;

-- delete_permit -- A permit is in nobody's way any more.
DELETE FROM permit WHERE name = :name AND number = :number;

-- put_attribute -- An attribute of a workflow, new or as it is from now on. Primary key.
INSERT INTO attribute (workflow_id, name, value) VALUES (:workflow_id, :name, :value)
ON CONFLICT (workflow_id, name) DO UPDATE SET value = excluded.value;

-- attributes_of -- The attributes of a workflow, by name. Primary key.
SELECT name, value FROM attribute WHERE workflow_id = :workflow_id ORDER BY name;

-- workflows_with -- Headers of workflows that have an attribute and others, by id, newest first. Indexes attribute_value, primary keys.
SELECT w.id, w.application, w.name, w.status, w.created_at, w.started_at, w.ended_at, w.error
FROM attribute AS first CROSS JOIN workflow AS w ON w.id = first.workflow_id
WHERE first.name = :name AND first.value = :value AND (:application IS NULL OR w.application = :application)
      AND NOT EXISTS (SELECT 1 FROM json_each(:others) AS other WHERE NOT EXISTS (
          SELECT 1 FROM attribute AS a WHERE a.workflow_id = first.workflow_id AND a.name = other.key AND a.value = other.value))
ORDER BY first.workflow_id DESC LIMIT :most;

-- delete_attributes_of -- Part of deleting workflows. Primary key.
DELETE FROM attribute WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- schedules -- Every schedule, by key.
SELECT key, cron, timezone, catch_up, definition, paused, next_due, last_due, last_run, error FROM schedule ORDER BY key;

-- schedule -- One schedule. Primary key.
SELECT key, cron, timezone, catch_up, definition, paused, next_due, last_due, last_run, error FROM schedule WHERE key = :key;

-- due_schedules -- Schedules of which something is due. Index schedule_due.
SELECT key, cron, timezone, catch_up, definition, paused, next_due, last_due, last_run, error FROM schedule
WHERE paused = 0 AND next_due <= :now ORDER BY next_due LIMIT :most;

-- next_schedule -- When something is due next by any schedule. Index schedule_due.
SELECT min(next_due) FROM schedule WHERE paused = 0;

-- put_schedule -- A schedule, new or as it is from now on; one that broke starts again, one that was paused does not.
INSERT INTO schedule (key, cron, timezone, catch_up, definition, next_due)
VALUES (:key, :cron, :timezone, :catch_up, :definition, :next_due)
ON CONFLICT (key) DO UPDATE SET cron = excluded.cron, timezone = excluded.timezone, catch_up = excluded.catch_up,
       definition = excluded.definition, next_due = excluded.next_due,
       paused = CASE WHEN schedule.error IS NULL THEN schedule.paused ELSE 0 END, error = NULL;

-- move_schedule -- A schedule goes on to what is due next, unless somebody has moved or paused it.
UPDATE schedule SET next_due = :next_due, last_due = :last_due, last_run = :last_run
WHERE key = :key AND next_due = :seen AND paused = 0;

-- pause_schedule -- A schedule starts nothing.
UPDATE schedule SET paused = 1 WHERE key = :key;

-- break_schedule -- A schedule could not start what was due.
UPDATE schedule SET paused = 1, error = :error WHERE key = :key;

-- resume_schedule -- A schedule starts again what is due from now on.
UPDATE schedule SET paused = 0, error = NULL, next_due = :next_due WHERE key = :key;

-- delete_schedule -- A schedule is forgotten.
DELETE FROM schedule WHERE key = :key;

-- count_head -- The header row after a step that only counted.
UPDATE workflow SET active = :active, sequence = :sequence WHERE id = :id;

-- begin_anew -- The header row of a fork, which begins when it is made.
UPDATE workflow SET context = :context, created_at = :created_at WHERE id = :id;

-- forks_of -- Runs that were made of a run. Index workflow_forks.
SELECT id FROM workflow WHERE json_extract(about, '$.forked_from.run') = :workflow_id ORDER BY created_at, id;

-- update_head -- The header row after any other step.
UPDATE workflow SET status = :status, paused = :paused, ending = :ending, cancels = :cancels,
       late_failures = :late_failures, slot = :slot, active = :active, sequence = :sequence, jumps = :jumps, error = :error,
       started_at = :started_at, ended_at = :ended_at
WHERE id = :id;

-- stage -- One stage row, only of this workflow. Primary key.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE id = :stage_id AND workflow_id = :workflow_id;

-- stage_was_known -- Whether the log of a workflow speaks of a stage row that is gone. Index event_by_sequence.
SELECT EXISTS (SELECT 1 FROM event WHERE workflow_id = :workflow_id AND stage_id = :stage_id);

-- stages -- Several stage rows of this workflow. Primary key, once for each id.
SELECT s.id, s.base_id, s.ref_id, s.ordinal, s.spec, s.status, s.generation, s.activation, s.fired, s.sent, s.depth,
       s.softly_failed, s.triggers, s.inherited, s.context, s.outputs, s.error, s.started_at, s.ended_at,
       s.waits, s.phase, s.added, s.closed, s.via
FROM json_each(:ids) AS wanted CROSS JOIN stage AS s ON s.id = wanted.value
WHERE s.workflow_id = :workflow_id;

-- stages_of_workflow -- All stage rows of a workflow as written, further activations last. Index stage_by_ref.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id ORDER BY activation > 1, ordinal, activation;

-- open_stages -- Rows that hold the workflow open, as written. Index stage_by_ref.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id AND (status = 'RUNNING' OR status = 'PAUSED' OR status = 'SUSPENDED' OR status = 'REDIRECT'
       OR status = 'BUFFERED')
ORDER BY ordinal, activation;

-- incomplete_stages -- Rows that are not complete, as written. Index stage_by_ref.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id
       AND status IN ('NOT_STARTED', 'RUNNING', 'PAUSED', 'SUSPENDED', 'REDIRECT', 'BUFFERED')
ORDER BY ordinal, activation;

-- stages_and_activations -- The rows of several stages with their further activations, in the order asked for.
SELECT s.id, s.base_id, s.ref_id, s.ordinal, s.spec, s.status, s.generation, s.activation, s.fired, s.sent, s.depth,
       s.softly_failed, s.triggers, s.inherited, s.context, s.outputs, s.error, s.started_at, s.ended_at,
       s.waits, s.phase, s.added, s.closed, s.via
FROM json_each(:ids) AS wanted CROSS JOIN stage AS s ON s.id = wanted.value
UNION ALL
SELECT s.id, s.base_id, s.ref_id, s.ordinal, s.spec, s.status, s.generation, s.activation, s.fired, s.sent, s.depth,
       s.softly_failed, s.triggers, s.inherited, s.context, s.outputs, s.error, s.started_at, s.ended_at,
       s.waits, s.phase, s.added, s.closed, s.via
FROM json_each(:ids) AS wanted CROSS JOIN stage AS s ON s.base_id = wanted.value AND s.activation > 1;

-- roots -- Ids of the stages without requisites, as written. Index stage_by_ref.
SELECT id FROM stage
WHERE workflow_id = :workflow_id AND activation = 1 AND substr(spec, 1, 14) <> '{"requisites":'
      AND json_extract(spec, '$.parent_stage_id') IS NULL
ORDER BY ordinal;

-- stage_id_by_ref -- Id of the stage with a ref_id. Index stage_by_ref.
SELECT id FROM stage WHERE workflow_id = :workflow_id AND ref_id = :ref_id;

-- insert_stage -- A new stage row.
INSERT INTO stage (id, workflow_id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth,
       softly_failed, triggers, inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via)
VALUES (:id, :workflow_id, :base_id, :ref_id, :ordinal, :spec, :status, :generation, :activation, :fired, :sent, :depth,
       :softly_failed, :triggers, :inherited, :context, :outputs, :error, :started_at, :ended_at, :waits, :phase, :added, :closed, :via);

-- move_stage -- A stage row after a step that did not touch its documents.
UPDATE stage SET status = :status, generation = :generation, fired = :fired, sent = :sent, depth = :depth,
       softly_failed = :softly_failed, error = :error, started_at = :started_at, ended_at = :ended_at, waits = :waits,
       phase = :phase, added = :added, closed = :closed, via = :via
WHERE id = :id;

-- update_stage -- A stage row after any other step.
UPDATE stage SET status = :status, generation = :generation, fired = :fired, sent = :sent, depth = :depth,
       softly_failed = :softly_failed, triggers = :triggers, inherited = :inherited, context = :context,
       outputs = :outputs, error = :error, started_at = :started_at, ended_at = :ended_at, waits = :waits, phase = :phase,
       added = :added, closed = :closed, via = :via
WHERE id = :id;

-- redefine_stage -- The definition of a stage row.
UPDATE stage SET spec = :spec WHERE id = :id;

-- delete_stage -- A further activation disappears.
DELETE FROM stage WHERE id = :id;

-- task -- One task row. Primary key.
SELECT id, stage_id, position, name, implementing_class, status, attempt, retries, polls, due, signal, error,
       first_started_at, started_at, ended_at
FROM task WHERE stage_id = :stage_id AND position = :position;

-- tasks -- The tasks of several stages. Primary key, once for each stage.
SELECT t.id, t.stage_id, t.position, t.name, t.implementing_class, t.status, t.attempt, t.retries, t.polls, t.due, t.signal,
       t.error, t.first_started_at, t.started_at, t.ended_at
FROM json_each(:ids) AS wanted CROSS JOIN task AS t ON t.stage_id = wanted.value ORDER BY t.stage_id, t.position;

-- update_task -- A task row after a step.
UPDATE task SET status = :status, attempt = :attempt, retries = :retries, polls = :polls, due = :due, signal = :signal,
       error = :error, first_started_at = :first_started_at, started_at = :started_at, ended_at = :ended_at
WHERE stage_id = :stage_id AND position = :position;

-- recode_task -- A task runs other code.
UPDATE task SET implementing_class = :new WHERE stage_id = :stage_id AND position = :position;

-- recode_messages -- Messages for a task name other code. Index message_left.
UPDATE message SET task_type = :new, payload = json_set(payload, '$.task_type', :new)
WHERE workflow_id = :workflow_id AND stage_id = :stage_id AND task_type = :old AND done_at IS NULL AND dead_at IS NULL;

-- put_task -- A new task row, or all of one.
INSERT INTO task (id, stage_id, position, name, implementing_class, status, attempt, retries, polls, due, signal, error,
       first_started_at, started_at, ended_at)
VALUES (:id, :stage_id, :position, :name, :implementing_class, :status, :attempt, :retries, :polls, :due, :signal, :error,
       :first_started_at, :started_at, :ended_at)
ON CONFLICT (stage_id, position) DO UPDATE SET name = excluded.name,
       implementing_class = excluded.implementing_class, status = excluded.status, attempt = excluded.attempt,
       retries = excluded.retries, polls = excluded.polls, due = excluded.due, signal = excluded.signal, error = excluded.error,
       first_started_at = excluded.first_started_at, started_at = excluded.started_at, ended_at = excluded.ended_at;

-- delete_task -- The task of an activation that disappears.
DELETE FROM task WHERE stage_id = :stage_id AND position = :position;

-- reachable -- Ids of the stages that can be reached from one, itself first, nearer ones before farther ones.
WITH RECURSIVE reached (id) AS (
    SELECT CAST(:stage_id AS TEXT)
    UNION
    SELECT json_extract(edge.value, '$[0]')
    FROM reached JOIN stage ON stage.id = reached.id JOIN json_each(stage.spec, '$.edges') AS edge
    UNION
    SELECT json_extract(child.value, '$[0]')
    FROM reached JOIN stage ON stage.id = reached.id JOIN json_each(stage.spec, '$.children') AS child
)
SELECT id FROM reached;

-- round -- The counters of one round. Primary key.
SELECT stage_id, generation, number, live, dead, halt, settled
FROM round WHERE stage_id = :stage_id AND generation = :generation AND number = :number;

-- put_round -- The counters of one round, new or after a step.
INSERT INTO round (stage_id, generation, number, workflow_id, live, dead, halt, settled)
VALUES (:stage_id, :generation, :number, :workflow_id, :live, :dead, :halt, :settled)
ON CONFLICT (stage_id, generation, number) DO UPDATE SET live = excluded.live, dead = excluded.dead,
       halt = excluded.halt, settled = excluded.settled;

-- unsettled -- Rounds that hold a live outcome and are not settled, of stages that never fired. Index round_waiting.
SELECT r.stage_id, r.generation, r.number, r.live, r.dead, r.halt, r.settled
FROM round AS r JOIN stage AS s ON s.id = r.stage_id AND s.generation = r.generation
WHERE r.workflow_id = :workflow_id AND r.settled = 0 AND r.live > 0 AND s.fired = 0 AND s.sent = 0;

-- broken -- Rows that failed or were withdrawn, as written. Index stage_by_ref.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id AND (status IN ('TERMINAL', 'CANCELED') OR (status = 'NOT_STARTED' AND fired > 0)) ORDER BY ordinal, activation;

-- arrived -- Rows without outgoing edges that are not broken off. Index stage_by_ref.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id AND status IN ('SUCCEEDED', 'FAILED_CONTINUE', 'SKIPPED')
      AND json_array_length(spec, '$.edges') IS NULL;

-- arrival -- One outcome of one edge. Primary key.
SELECT stage_id, generation, number, via, token, source, held, position FROM arrival
WHERE stage_id = :stage_id AND generation = :generation AND number = :number AND via = :via;

-- arrivals -- The outcomes of one round. Primary key.
SELECT stage_id, generation, number, via, token, source, held, position FROM arrival
WHERE stage_id = :stage_id AND generation = :generation AND number = :number;

-- all_arrivals -- The outcomes of all rounds of a generation. Primary key.
SELECT stage_id, generation, number, via, token, source, held, position FROM arrival
WHERE stage_id = :stage_id AND generation = :generation;

-- put_arrival -- An outcome.
INSERT INTO arrival (stage_id, generation, number, via, token, source, held, position, workflow_id)
VALUES (:stage_id, :generation, :number, :via, :token, :source, :held, :position, :workflow_id)
ON CONFLICT (stage_id, generation, number, via) DO UPDATE SET token = excluded.token, source = excluded.source,
       held = excluded.held, position = excluded.position;

-- held -- Outcomes that have no effect before the workflow is restarted. Index arrival_held.
SELECT a.stage_id, a.generation, a.number, a.via, a.token, a.source, a.held, a.position
FROM arrival AS a JOIN stage AS s ON s.id = a.stage_id AND s.generation = a.generation
WHERE a.workflow_id = :workflow_id AND a.held = 1;

-- buffered_for_stage -- Signals kept for one stage, oldest first. Index signal_by_workflow.
SELECT id, position, stage_id, name, data FROM signal WHERE workflow_id = :workflow_id AND stage_id = :stage_id ORDER BY position;

-- buffered -- Signals kept for a workflow, oldest first. Index signal_by_workflow.
SELECT id, position, stage_id, name, data FROM signal WHERE workflow_id = :workflow_id ORDER BY position;

-- insert_signal -- A signal is kept.
INSERT INTO signal (id, position, workflow_id, stage_id, name, data)
VALUES (:id, :position, :workflow_id, :stage_id, :name, :data);

-- delete_signal -- A signal was used up or dropped.
DELETE FROM signal WHERE id = :id;

-- claim_row -- One claim. Primary key.
SELECT name, workflow_id, holder, settled, taken, tickets FROM claim WHERE name = :name;

-- claims -- The claims that a workflow holds. Index claim_of_workflow.
SELECT name, workflow_id, holder, settled, taken, tickets FROM claim WHERE workflow_id = :workflow_id;

-- claim_wanted_by_others -- A claim of a workflow for which another one waits. Index claim_of_workflow.
SELECT c.name FROM claim AS c JOIN waiter AS w ON w.claim = c.name
WHERE c.workflow_id = :workflow_id AND w.workflow_id <> :workflow_id LIMIT 1;

-- put_claim -- A claim, new or after a step.
INSERT INTO claim (name, workflow_id, holder, settled, taken, tickets)
VALUES (:name, :workflow_id, :holder, :settled, :taken, :tickets)
ON CONFLICT (name) DO UPDATE SET workflow_id = excluded.workflow_id, holder = excluded.holder,
       settled = excluded.settled, taken = excluded.taken, tickets = excluded.tickets;

-- delete_claim -- Nobody holds a claim, nobody waits for it.
DELETE FROM claim WHERE name = :name;

-- waiter -- Who waits for a claim. Primary key.
SELECT claim, stage_id, workflow_id, generation, ticket, holder FROM waiter
WHERE claim = :claim AND stage_id = :stage_id;

-- line -- The first of those who wait for a claim, after a ticket. Index waiter_in_line.
SELECT claim, stage_id, workflow_id, generation, ticket, holder FROM waiter
WHERE claim = :claim AND ticket > :after ORDER BY ticket LIMIT 8;

-- put_waiter -- Somebody waits for a claim.
INSERT INTO waiter (claim, stage_id, workflow_id, generation, ticket, holder)
VALUES (:claim, :stage_id, :workflow_id, :generation, :ticket, :holder)
ON CONFLICT (claim, stage_id) DO UPDATE SET generation = excluded.generation, ticket = excluded.ticket,
       holder = excluded.holder;

-- delete_waiter -- Somebody waits no more.
DELETE FROM waiter WHERE claim = :claim AND stage_id = :stage_id;

-- waiting_stages -- Rows that are ready and wait for something, as written. Index stage_waiting.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id AND waits <> '' ORDER BY ordinal, activation;

-- members -- Rows whose definition has a value in a field, as written. Index stage_by_ref.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id AND json_extract(spec, :field) = :value ORDER BY ordinal, activation;

-- jumpers -- Stages that name where they may jump to, as written. Index stage_by_ref.
SELECT id, base_id, ref_id, ordinal, spec, status, generation, activation, fired, sent, depth, softly_failed, triggers,
       inherited, context, outputs, error, started_at, ended_at, waits, phase, added, closed, via
FROM stage WHERE workflow_id = :workflow_id AND activation = 1 AND json_array_length(spec, '$.jump_targets') > 0
ORDER BY ordinal;

-- messages_left -- Whether another message can move the workflow, or could if it was put back. Index message_left.
SELECT EXISTS (SELECT 1 FROM message WHERE workflow_id = :workflow_id AND done_at IS NULL
       AND (dead_at IS NULL OR :dead = 1) AND counts = 1 AND id <> :except_id);

-- insert_message -- A message, free or already claimed by the worker that writes it; one that is there stays as it is.
INSERT INTO message (id, workflow_id, stage_id, kind, task_type, payload, counts, timer, due_at, owner, lease_until,
       deliveries, fence)
VALUES (:id, :workflow_id, :stage_id, :kind, :task_type, :payload, :counts, :timer, :due_at, :owner, :lease_until,
       :deliveries, :deliveries)
ON CONFLICT (id) DO NOTHING;

-- insert_message_row -- A message as it was in another store, claimed by nobody.
INSERT INTO message (id, workflow_id, stage_id, kind, task_type, payload, counts, timer, due_at, deliveries, fence, lost, done_at,
       dead_at, error)
VALUES (:id, :workflow_id, :stage_id, :kind, :task_type, :payload, :counts, :timer, :due_at, :deliveries, :fence, :lost, :done_at,
       :dead_at, :error)
ON CONFLICT (id) DO NOTHING;

-- due -- Free messages that are due and are no bodies, oldest first, timers last; of an owner, or of all. Index message_due.
SELECT * FROM (
    SELECT id, workflow_id, stage_id, kind, task_type, payload, deliveries, fence, lost, error FROM message
    WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NULL AND timer = 0 AND due_at <= :now
          AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))
    ORDER BY due_at, position LIMIT :most
) AS orders
UNION ALL
SELECT * FROM (
    SELECT id, workflow_id, stage_id, kind, task_type, payload, deliveries, fence, lost, error FROM message
    WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NULL AND timer = 1 AND due_at <= :now
          AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))
    ORDER BY due_at, position LIMIT :most
) AS timers;

-- due_bodies -- Free messages that are due and run a body whose code is here, oldest first. Index message_body.
SELECT id, workflow_id, stage_id, kind, task_type, payload, deliveries, fence, lost, error FROM message
WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL AND due_at <= :now
      AND task_type IN (SELECT value FROM json_each(:known))
      AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))
ORDER BY due_at, position LIMIT :most;

-- bodies_in_turn -- The oldest of each workflow of those that `due_bodies` gives; of so many workflows, by id. Index message_turn.
WITH RECURSIVE turn (workflow_id, number) AS (
    SELECT (SELECT min(workflow_id) FROM message INDEXED BY message_turn
            WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL AND workflow_id > :after), 1
    UNION ALL
    SELECT (SELECT min(m.workflow_id) FROM message AS m INDEXED BY message_turn
            WHERE m.owner IS NULL AND m.done_at IS NULL AND m.dead_at IS NULL AND m.task_type IS NOT NULL
                  AND m.workflow_id > turn.workflow_id), turn.number + 1
    FROM turn WHERE turn.workflow_id IS NOT NULL AND turn.number < :turns
)
SELECT b.id, b.workflow_id, b.stage_id, b.kind, b.task_type, b.payload, b.deliveries, b.fence, b.lost, b.error
FROM turn CROSS JOIN message AS b ON b.position = (
    SELECT m.position FROM message AS m
    WHERE m.workflow_id = turn.workflow_id AND m.owner IS NULL AND m.done_at IS NULL AND m.dead_at IS NULL
          AND m.task_type IS NOT NULL AND m.due_at <= :now
          AND m.task_type IN (SELECT value FROM json_each(:known))
          AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = m.workflow_id AND c.owner = :owner))
    ORDER BY m.due_at, m.position LIMIT 1)
ORDER BY turn.number LIMIT :most;

-- next_due -- When the next free message is due: no timer, a timer, a body whose code is here. Indexes message_due, message_body.
SELECT (SELECT min(due_at) FROM message
        WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NULL AND timer = 0
        AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))),
       (SELECT min(due_at) FROM message
        WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NULL AND timer = 1
        AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))),
       (SELECT due_at FROM message
        WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL
              AND task_type IN (SELECT value FROM json_each(:known))
              AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))
        ORDER BY due_at, position LIMIT 1);

-- next_order -- The same when no bodies are looked for. Index message_due.
SELECT (SELECT min(due_at) FROM message
        WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NULL AND timer = 0
        AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))),
       (SELECT min(due_at) FROM message
        WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NULL AND timer = 1
        AND (:owner IS NULL OR EXISTS (SELECT 1 FROM custody AS c WHERE c.workflow_id = message.workflow_id AND c.owner = :owner))),
       NULL;

-- claim -- A worker takes a message.
UPDATE message SET owner = :owner, lease_until = :lease_until, deliveries = deliveries + 1, fence = fence + 1
WHERE id = :id AND owner IS NULL AND done_at IS NULL AND dead_at IS NULL;

-- pass_on -- A worker's task is done and its message becomes that of the task it goes on with; none if it was lost.
UPDATE message SET stage_id = :stage_id, task_type = :task_type, payload = :payload, lease_until = :lease_until,
       deliveries = 1, lost = 0, fence = fence + 1
WHERE id = :id AND owner = :owner AND fence = :fence AND done_at IS NULL;

-- acknowledge -- A message is done; nothing happens when its worker has lost it.
UPDATE message SET done_at = :now, owner = NULL, lease_until = NULL
WHERE id = :id AND done_at IS NULL AND dead_at IS NULL
      AND (owner IS NULL AND :owner IS NULL OR owner = :owner) AND fence = :fence;

-- is_left -- Whether a message is still to be processed. Unique id.
SELECT EXISTS (SELECT 1 FROM message WHERE id = :id AND done_at IS NULL AND dead_at IS NULL);

-- still_mine -- Whether a claim still holds. Unique id.
SELECT EXISTS (SELECT 1 FROM message WHERE id = :id AND owner = :owner AND fence = :fence
       AND done_at IS NULL AND dead_at IS NULL);

-- release -- A worker gives a message back.
UPDATE message SET owner = NULL, lease_until = NULL, due_at = :due_at, error = :error
WHERE id = :id AND owner = :owner AND done_at IS NULL AND dead_at IS NULL;

-- give_back -- A claim of a commit that failed is dropped, if it was kept after all.
UPDATE message SET owner = NULL, lease_until = NULL, due_at = :now
WHERE id = :id AND owner = :owner AND fence = :fence AND done_at IS NULL AND dead_at IS NULL;

-- postpone -- A message that failed is tried again later; that of a body is begun again.
UPDATE message SET owner = NULL, lease_until = NULL, due_at = :due_at, error = :error, deliveries = deliveries + 1,
       lost = CASE WHEN owner IS NULL THEN lost ELSE lost + 1 END
WHERE id = :id AND done_at IS NULL AND dead_at IS NULL;

-- bury -- A message goes to the dead letters with the cause.
UPDATE message SET dead_at = :now, owner = NULL, lease_until = NULL, error = :error
WHERE id = :id AND done_at IS NULL AND dead_at IS NULL;

-- renew -- A processor is alive: its claims last longer. Index message_claimed.
UPDATE message SET lease_until = :lease_until
WHERE owner = :owner AND done_at IS NULL AND dead_at IS NULL;

-- other_owners -- Who else holds claims, and until when at most. Index message_claimed.
SELECT owner, max(lease_until) FROM message
WHERE owner IS NOT NULL AND owner <> :owner AND done_at IS NULL AND dead_at IS NULL GROUP BY owner;

-- losses_of_owner -- The messages that a processor holds, and how often the body of each was lost. Index message_claimed.
SELECT id, lost FROM message WHERE owner = :owner AND done_at IS NULL AND dead_at IS NULL;

-- free_held -- A message that a dead processor held is free again and stands before all others. Unique id.
UPDATE message SET owner = NULL, lease_until = NULL, lost = :lost, due_at = 0, error = NULL
WHERE id = :id AND owner = :owner AND done_at IS NULL AND dead_at IS NULL;

-- leave_body -- A process ends in good order while a body runs: it is begun again, and its process has not died.
UPDATE message SET owner = NULL, lease_until = NULL, due_at = :now, error = :error,
       lost = CASE WHEN lost = 0 THEN 1 ELSE lost END
WHERE id = :id AND owner = :owner AND fence = :fence AND done_at IS NULL AND dead_at IS NULL;

-- claims_of_owner -- Workflows and stages whose messages a processor holds. Index message_claimed.
SELECT workflow_id, stage_id FROM message WHERE owner = :owner AND done_at IS NULL AND dead_at IS NULL;

-- queue_size -- How many messages are not done. Partial indexes only.
SELECT count(*) FROM message WHERE done_at IS NULL AND dead_at IS NULL;

-- waiting_for_code -- Task names that queued messages name, with their number. Index message_due.
SELECT task_type, count(*) FROM message
WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL GROUP BY task_type;

-- waiting_for_code_of -- Task names that queued messages of a workflow name. Index message_left.
SELECT DISTINCT task_type FROM message
WHERE workflow_id = :workflow_id AND owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL;

-- clear_messages -- Every message goes.
DELETE FROM message;

-- dead_letters -- Messages that could not be processed, oldest first. Index message_dead.
SELECT m.id, m.workflow_id, m.stage_id, m.kind, m.payload, m.deliveries, m.dead_at, m.error, m.lost, s.ref_id
FROM message AS m LEFT JOIN stage AS s ON s.id = m.stage_id
WHERE m.dead_at IS NOT NULL ORDER BY m.dead_at, m.position;

-- dead_letters_of -- The same of one workflow. Index message_left.
SELECT m.id, m.workflow_id, m.stage_id, m.kind, m.payload, m.deliveries, m.dead_at, m.error, m.lost, s.ref_id
FROM message AS m LEFT JOIN stage AS s ON s.id = m.stage_id
WHERE m.workflow_id = :workflow_id AND m.done_at IS NULL AND m.dead_at IS NOT NULL ORDER BY m.dead_at, m.position;

-- withdraw_bodies -- What was to be done about a body of a stage is settled. Index message_left.
UPDATE message SET done_at = :now, dead_at = NULL
WHERE workflow_id = :workflow_id AND stage_id = :stage_id AND kind = 'RunTask' AND done_at IS NULL AND owner IS NULL
      AND id <> :except_id;

-- forget_losses -- A body has come further than before its process died.
UPDATE message SET lost = 0 WHERE id = :id;

-- redrive -- A dead letter is put back as it was, with fresh attempts. Unique id.
UPDATE message SET dead_at = NULL, error = NULL, deliveries = 0, lost = 0, due_at = :now
WHERE id = :id AND dead_at IS NOT NULL;

-- journal_of_call -- The results of all durable steps of one logical call. Primary key.
SELECT name, number, value FROM journal WHERE stage_id = :stage_id AND call = :call AND value IS NOT NULL;

-- insert_journal -- A step; the first one stays.
INSERT INTO journal (stage_id, call, name, number, made, workflow_id, ref_id, kind, target, attempt, value, error, input_tokens, output_tokens, cost,
       held_tokens, held_cost, begun_at, at)
VALUES (:stage_id, :call, :name, :number, :made, :workflow_id, :ref_id, :kind, :target, :attempt, :value, :error, :input_tokens, :output_tokens, :cost,
        :held_tokens, :held_cost, :begun_at, :at) ON CONFLICT DO NOTHING;

-- open_call -- A call that was begun and not settled: how often it was made, and what is reserved for it. Primary key.
SELECT made, held_tokens, held_cost, attempt FROM journal
WHERE stage_id = :stage_id AND call = :call AND name = :name AND number = :number AND at IS NULL
ORDER BY made DESC LIMIT 1;

-- own_call -- The same of one attempt. Primary key.
SELECT made, held_tokens, held_cost FROM journal
WHERE stage_id = :stage_id AND call = :call AND name = :name AND number = :number AND at IS NULL AND attempt = :attempt;

-- left_calls -- Calls of a workflow for which something is reserved, and whose bodies are not at work any more. Index journal_of_workflow.
SELECT stage_id, call, name, number, made, held_tokens, held_cost FROM journal AS j
WHERE workflow_id = :workflow_id AND at IS NULL AND held_tokens + held_cost > 0 AND NOT EXISTS (
    SELECT 1 FROM task AS t WHERE t.stage_id = j.stage_id AND t.status = 'RUNNING' AND t.attempt = j.attempt);

-- times_made -- How often a call was begun. Primary key.
SELECT coalesce(max(made), 0) FROM journal WHERE stage_id = :stage_id AND call = :call AND name = :name AND number = :number;

-- settle_call -- What became of a call. Primary key.
UPDATE journal SET value = :value, error = :error, input_tokens = :input_tokens, output_tokens = :output_tokens, cost = :cost,
       held_tokens = :held_tokens, held_cost = :held_cost, at = :at
WHERE stage_id = :stage_id AND call = :call AND name = :name AND number = :number AND made = :made;

-- calls_of_workflow -- Calls of models and tools of a workflow, in the order in which they were begun. Index journal_of_workflow.
SELECT ref_id, stage_id, kind, target, attempt, value IS NOT NULL, error, input_tokens, output_tokens, cost, held_tokens,
       held_cost, begun_at, at,
       EXISTS (SELECT 1 FROM task AS t WHERE t.stage_id = j.stage_id AND t.status = 'RUNNING' AND t.attempt = j.attempt)
FROM journal AS j WHERE workflow_id = :workflow_id AND kind <> 'step'
ORDER BY begun_at, at IS NULL, at, stage_id, name, number, made;

-- budgets_over -- A workflow and those that have called it, as far as they have a budget, and what was taken of it. Primary key.
WITH RECURSIVE line (id, context, depth) AS (
    SELECT id, context, 0 FROM workflow WHERE id = :workflow_id
    UNION ALL
    SELECT w.id, w.context, line.depth + 1 FROM line
    JOIN workflow AS w ON w.id = json_extract(line.context, '$._parent_workflow_id') WHERE line.depth < 100
)
SELECT line.id, json_extract(line.context, '$._budget'), a.call_limit, a.token_limit, a.cost_limit, coalesce(a.calls, 0),
       coalesce(a.tokens, 0), coalesce(a.cost, 0), coalesce(a.held_tokens, 0), coalesce(a.held_cost, 0), a.workflow_id IS NOT NULL
FROM line LEFT JOIN account AS a ON a.workflow_id = line.id
WHERE json_extract(line.context, '$._budget') IS NOT NULL ORDER BY line.depth;

-- open_account -- Nothing is taken of a budget yet.
INSERT INTO account (workflow_id, call_limit, token_limit, cost_limit)
VALUES (:workflow_id, :call_limit, :token_limit, :cost_limit) ON CONFLICT DO NOTHING;

-- charge -- What a call takes of a budget, or gives back. Primary key.
UPDATE account SET calls = calls + :calls, tokens = tokens + :tokens, cost = cost + :cost,
       held_tokens = held_tokens + :held_tokens, held_cost = held_cost + :held_cost
WHERE workflow_id = :workflow_id;

-- extend_account -- A budget becomes larger. Primary key.
UPDATE account SET call_limit = call_limit + :calls, token_limit = token_limit + :tokens, cost_limit = cost_limit + :cost
WHERE workflow_id = :workflow_id;

-- insert_event -- A fact in the log.
INSERT INTO event (workflow_id, sequence, type, at, stage_id, data)
VALUES (:workflow_id, :sequence, :type, :at, :stage_id, :data);

-- events_of_workflow -- The log of a workflow. Index event_by_sequence.
SELECT position, workflow_id, sequence, type, at, stage_id, data FROM event
WHERE workflow_id = :workflow_id AND sequence > :after AND sequence <= :until ORDER BY sequence;

-- framed_events -- The log of a workflow for a frame; a type whose facts say no status, attempt or position is not looked into. Index event_by_sequence.
SELECT CASE sequence WHEN (SELECT min(sequence) FROM event WHERE workflow_id = :workflow_id) THEN workflow_id END AS run,
       sequence, at, type, stage_id,
       CASE WHEN type NOT IN ('join.fired', 'stage.started', 'workflow.created', 'context.updated', 'token.arrived')
            THEN json_extract(data, '$.status', '$.attempt', '$.position') END AS said, data
FROM event WHERE workflow_id = :workflow_id ORDER BY sequence;

-- framed_events_of_many -- The logs of the workflows that are meant, one after the other, with the same columns. Index event_by_sequence.
SELECT CASE sequence WHEN 1 THEN workflow_id END AS run, sequence, at, type, stage_id,
       CASE WHEN type NOT IN ('join.fired', 'stage.started', 'workflow.created', 'context.updated', 'token.arrived')
            THEN json_extract(data, '$.status', '$.attempt', '$.position') END AS said, data
FROM event WHERE workflow_id IN (
    SELECT first.workflow_id FROM event AS first INDEXED BY event_by_sequence WHERE first.sequence = 1
           AND (:application IS NULL OR json_extract(first.data, '$.definition.application') = :application)
           AND (:name IS NULL OR json_extract(first.data, '$.definition.name') = :name)
           AND (CAST(:since AS INTEGER) IS NULL OR first.at >= :since)
           AND (:runs IS NULL OR first.workflow_id IN (SELECT value FROM json_each(:runs)))
) ORDER BY workflow_id, sequence;

-- outputs_of_workflow -- What the bodies of a workflow printed. Index event_by_sequence.
SELECT sequence, at, stage_id, data FROM event
WHERE workflow_id = :workflow_id AND sequence > :after AND type = 'task.output' ORDER BY sequence;

-- events_after -- The log of all workflows from a position on.
SELECT position, workflow_id, sequence, type, at, stage_id, data FROM event
WHERE position > :after ORDER BY position LIMIT :most;

-- last_position -- Where the log ends.
SELECT coalesce(max(position), 0) FROM event;

-- copy_event -- A fact taken over from another log; one that is there stays.
INSERT INTO event (workflow_id, sequence, type, at, stage_id, data)
VALUES (:workflow_id, :sequence, :type, :at, :stage_id, :data) ON CONFLICT (workflow_id, sequence) DO NOTHING;

-- event_count -- How many facts the log of all workflows holds.
SELECT count(*) FROM event;

-- workflows -- Headers, newest first. Index workflow_by_application.
SELECT id, application, name, status, created_at, started_at, ended_at, error FROM workflow
WHERE (:application IS NULL OR application = :application) ORDER BY created_at DESC, id DESC LIMIT :most;

-- unfinished_workflows -- Headers of workflows that have not ended, oldest first. Index workflow_unfinished.
SELECT id, application, name, status, created_at, started_at, ended_at, error FROM workflow
WHERE ended_at IS NULL AND (:application IS NULL OR application = :application) ORDER BY created_at, id;

-- suspended_stages -- Stages of all workflows, or of one, that wait for a signal, but for those that wait for a child workflow. Index stage_parked.
SELECT s.id, s.workflow_id, s.ref_id, s.context, s.started_at, s.generation, t.first_started_at, w.name, t.error, t.attempt
FROM stage AS s JOIN workflow AS w ON w.id = s.workflow_id JOIN task AS t ON t.stage_id = s.id AND t.status = 'SUSPENDED'
WHERE s.status = 'SUSPENDED' AND s.workflow_id = coalesce(:workflow_id, s.workflow_id)
      AND (t.implementing_class <> 'sub_workflow' OR t.error IS NOT NULL)
ORDER BY s.started_at, s.id;

-- decisions -- Signals that stages of a workflow, or one of them, took or refused. Index event_by_sequence.
SELECT e.sequence, e.at, e.stage_id, s.ref_id, e.data
FROM event AS e LEFT JOIN stage AS s ON s.id = e.stage_id
WHERE e.workflow_id = :workflow_id AND e.type IN ('signal.delivered', 'signal.refused', 'task.settled') AND e.stage_id = coalesce(:stage_id, e.stage_id)
ORDER BY e.sequence;

-- unfinished_of_cell -- Workflows of an application that a cell began and that have not ended, oldest first. Index workflow_unfinished.
SELECT id, context, about FROM workflow
WHERE ended_at IS NULL AND application = :application AND json_extract(about, '$.trigger.payload.notebook.cell') = :cell
ORDER BY created_at, id;

-- runs_without_key -- Workflows of an application that have the same code and no key and have not failed, newest first. Index workflow_by_application.
SELECT id, context, about FROM workflow
WHERE application = :application AND (ended_at IS NULL OR status = 'SUCCEEDED')
      AND json_extract(about, '$.trigger.payload.notebook.key') IS NULL
      AND json_extract(about, '$.trigger.payload.notebook.code') = :code
ORDER BY created_at DESC, id DESC;

-- workflow_exists -- Whether a workflow is stored. Primary key.
SELECT EXISTS (SELECT 1 FROM workflow WHERE id = :workflow_id);

-- delete_signals_of -- Part of deleting workflows.
DELETE FROM signal WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_waiters_of -- Part of deleting workflows.
DELETE FROM waiter WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_claims_of -- Part of deleting workflows.
DELETE FROM claim WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_journal_of -- Part of deleting workflows.
DELETE FROM journal WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_accounts_of -- Part of deleting workflows.
DELETE FROM account WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_rounds_of -- Part of deleting workflows.
DELETE FROM round WHERE stage_id IN (SELECT id FROM stage WHERE workflow_id IN (SELECT value FROM json_each(:ids)));

-- delete_arrivals_of -- Part of deleting workflows.
DELETE FROM arrival WHERE stage_id IN (SELECT id FROM stage WHERE workflow_id IN (SELECT value FROM json_each(:ids)));

-- delete_tasks_of -- Part of deleting workflows.
DELETE FROM task WHERE stage_id IN (SELECT id FROM stage WHERE workflow_id IN (SELECT value FROM json_each(:ids)));

-- delete_messages_of -- Part of deleting workflows.
DELETE FROM message WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_events_of -- Part of deleting workflows.
DELETE FROM event WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_stages_of -- Part of deleting workflows.
DELETE FROM stage WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- blob -- A large part of documents, in pieces. Primary key.
SELECT data FROM blob WHERE digest = :digest ORDER BY part;

-- blob_is_kept -- Whether a large part is there. Primary key.
SELECT 1 FROM blob WHERE digest = :digest AND part = 0;

-- insert_blob -- A piece of a large part.
INSERT INTO blob (digest, part, data) VALUES (:digest, :part, :data) ON CONFLICT DO NOTHING;

-- use_blob -- A workflow refers to a large part; none if it did before.
INSERT INTO blob_use (workflow_id, digest) VALUES (:workflow_id, :digest) ON CONFLICT DO NOTHING;

-- delete_blobs_of -- Part of deleting workflows: what nobody else refers to. Indexes of blob_use.
DELETE FROM blob WHERE digest IN (SELECT digest FROM blob_use WHERE workflow_id IN (SELECT value FROM json_each(:ids)))
      AND NOT EXISTS (SELECT 1 FROM blob_use AS u WHERE u.digest = blob.digest
                      AND u.workflow_id NOT IN (SELECT value FROM json_each(:ids)));

-- delete_blob_uses_of -- Part of deleting workflows.
DELETE FROM blob_use WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- put_graph_checkpoint -- A checkpoint of a graph, or the same one again.
INSERT INTO graph_checkpoint (thread_id, namespace, checkpoint_id, parent_id, run_id, versions, kind, body, meta_kind, meta)
VALUES (:thread_id, :namespace, :checkpoint_id, :parent_id, :run_id, :versions, :kind, :body, :meta_kind, :meta)
ON CONFLICT (thread_id, namespace, checkpoint_id) DO UPDATE SET parent_id = excluded.parent_id, run_id = excluded.run_id,
       versions = excluded.versions, kind = excluded.kind, body = excluded.body, meta_kind = excluded.meta_kind, meta = excluded.meta;

-- put_graph_channel -- The value of a channel at a version.
INSERT INTO graph_channel (thread_id, namespace, channel, version, kind, body)
VALUES (:thread_id, :namespace, :channel, :version, :kind, :body)
ON CONFLICT (thread_id, namespace, channel, version) DO UPDATE SET kind = excluded.kind, body = excluded.body;

-- put_graph_write -- What a task has written; only special writes, which have negative numbers, are written over.
INSERT INTO graph_write (thread_id, namespace, checkpoint_id, task_id, number, path, channel, kind, body)
VALUES (:thread_id, :namespace, :checkpoint_id, :task_id, :number, :path, :channel, :kind, :body)
ON CONFLICT (thread_id, namespace, checkpoint_id, task_id, number) DO UPDATE
SET path = excluded.path, channel = excluded.channel, kind = excluded.kind, body = excluded.body WHERE graph_write.number < 0;

-- graph_checkpoint -- A checkpoint by its id, or the newest of a namespace. Primary key.
SELECT checkpoint_id, parent_id, kind, body, meta_kind, meta FROM graph_checkpoint
WHERE thread_id = :thread_id AND namespace = :namespace AND checkpoint_id = coalesce(:checkpoint_id,
      (SELECT max(checkpoint_id) FROM graph_checkpoint WHERE thread_id = :thread_id AND namespace = :namespace));

-- graph_channels -- The values that a checkpoint has. Primary keys.
SELECT c.channel, c.kind, c.body FROM graph_checkpoint AS p CROSS JOIN json_each(p.versions) AS v ON true CROSS JOIN graph_channel AS c
       ON c.thread_id = p.thread_id AND c.namespace = p.namespace AND c.channel = v.key AND c.version = v.value
WHERE p.thread_id = :thread_id AND p.namespace = :namespace AND p.checkpoint_id = :checkpoint_id;

-- graph_writes -- What was written after a checkpoint, in the order in which LangGraph applies it. Primary key.
SELECT task_id, channel, kind, body FROM graph_write
WHERE thread_id = :thread_id AND namespace = :namespace AND checkpoint_id = :checkpoint_id ORDER BY path, task_id, number;

-- graph_checkpoints -- All checkpoints, newest first.
SELECT thread_id, namespace, checkpoint_id, meta_kind, meta FROM graph_checkpoint
WHERE :before IS NULL OR checkpoint_id < :before ORDER BY checkpoint_id DESC;

-- graph_checkpoints_of -- Checkpoints of a thread, newest first. Primary key.
SELECT thread_id, namespace, checkpoint_id, meta_kind, meta FROM graph_checkpoint
WHERE thread_id = :thread_id AND (:namespace IS NULL OR namespace = :namespace)
      AND (:checkpoint_id IS NULL OR checkpoint_id = :checkpoint_id) AND (:before IS NULL OR checkpoint_id < :before)
ORDER BY checkpoint_id DESC;

-- graph_namespaces -- The namespaces of a thread. Primary key.
SELECT DISTINCT namespace FROM graph_checkpoint WHERE thread_id = :thread_id;

-- graph_threads_of -- Threads with checkpoints of some runs of LangGraph. Index graph_checkpoint_of_run.
SELECT DISTINCT thread_id FROM graph_checkpoint WHERE run_id IN (SELECT value FROM json_each(:runs));

-- copy_graph_checkpoints -- Part of copying a thread. Primary key.
INSERT INTO graph_checkpoint (thread_id, namespace, checkpoint_id, parent_id, run_id, versions, kind, body, meta_kind, meta)
SELECT :target, namespace, checkpoint_id, parent_id, run_id, versions, kind, body, meta_kind, meta FROM graph_checkpoint
WHERE thread_id = :source
ON CONFLICT (thread_id, namespace, checkpoint_id) DO UPDATE SET parent_id = excluded.parent_id, run_id = excluded.run_id,
       versions = excluded.versions, kind = excluded.kind, body = excluded.body, meta_kind = excluded.meta_kind, meta = excluded.meta;

-- copy_graph_channels -- Part of copying a thread. Primary key.
INSERT INTO graph_channel (thread_id, namespace, channel, version, kind, body)
SELECT :target, namespace, channel, version, kind, body FROM graph_channel WHERE thread_id = :source
ON CONFLICT (thread_id, namespace, channel, version) DO UPDATE SET kind = excluded.kind, body = excluded.body;

-- copy_graph_writes -- Part of copying a thread. Primary key.
INSERT INTO graph_write (thread_id, namespace, checkpoint_id, task_id, number, path, channel, kind, body)
SELECT :target, namespace, checkpoint_id, task_id, number, path, channel, kind, body FROM graph_write WHERE thread_id = :source
ON CONFLICT (thread_id, namespace, checkpoint_id, task_id, number) DO UPDATE
SET path = excluded.path, channel = excluded.channel, kind = excluded.kind, body = excluded.body;

-- delete_graph_checkpoints -- Checkpoints of threads. Primary key.
DELETE FROM graph_checkpoint WHERE thread_id IN (SELECT value FROM json_each(:threads));

-- delete_graph_checkpoints_of_runs -- Checkpoints of runs of LangGraph. Index graph_checkpoint_of_run.
DELETE FROM graph_checkpoint WHERE run_id IN (SELECT value FROM json_each(:runs));

-- delete_graph_checkpoints_but -- Checkpoints of a namespace, but for those to keep. Primary key.
DELETE FROM graph_checkpoint WHERE thread_id = :thread_id AND namespace = :namespace
       AND checkpoint_id NOT IN (SELECT value FROM json_each(:kept));

-- delete_graph_writes -- Writes of threads whose checkpoint is gone. Primary keys.
DELETE FROM graph_write WHERE thread_id IN (SELECT value FROM json_each(:threads))
       AND NOT EXISTS (SELECT 1 FROM graph_checkpoint AS p WHERE p.thread_id = graph_write.thread_id
                       AND p.namespace = graph_write.namespace AND p.checkpoint_id = graph_write.checkpoint_id);

-- delete_graph_channels -- Values of channels that no checkpoint of their thread has any more. Primary keys.
DELETE FROM graph_channel WHERE thread_id IN (SELECT value FROM json_each(:threads))
       AND (thread_id, namespace, channel, version) NOT IN
           (SELECT p.thread_id, p.namespace, v.key, v.value FROM graph_checkpoint AS p CROSS JOIN json_each(p.versions) AS v ON true
            WHERE p.thread_id IN (SELECT value FROM json_each(:threads)));

-- graph_threads_of_workflows -- Threads that have the idempotency key of a task for their name. Primary keys.
SELECT DISTINCT p.thread_id FROM stage AS s CROSS JOIN task AS t ON t.stage_id = s.id CROSS JOIN graph_checkpoint AS p
       ON p.thread_id >= t.id || ':' AND p.thread_id < t.id || ';'
WHERE s.workflow_id IN (SELECT value FROM json_each(:ids));

-- delete_workflows -- The header rows go.
DELETE FROM workflow WHERE id IN (SELECT value FROM json_each(:ids));

-- insert_processor -- A processor announces itself and gets the lowest free slot, unless it has one.
INSERT INTO processor (slot, owner, host, pid, started_at, lease)
SELECT coalesce((SELECT min(p.slot) + 1 FROM (SELECT 0 AS slot UNION ALL SELECT slot FROM processor) AS p
       WHERE p.slot + 1 NOT IN (SELECT slot FROM processor)), 1), :owner, :host, :pid, :started_at, :lease
WHERE true ON CONFLICT (owner) DO NOTHING;

-- processor -- The slot and host of a processor, and how long its lease is.
SELECT slot, host, lease FROM processor WHERE owner = :owner;

-- processors -- Every processor that has announced itself.
SELECT slot, owner, host, pid, started_at FROM processor ORDER BY slot;

-- takes -- A processor says which tasks it runs.
UPDATE processor SET takes = :takes WHERE owner = :owner;

-- takers -- Every processor that has announced itself, with the tasks that it runs.
SELECT owner, takes FROM processor ORDER BY slot;

-- delete_processor -- A processor is gone.
DELETE FROM processor WHERE owner = :owner;

-- custody_of -- Who works at a workflow, and where. Primary key.
SELECT c.owner, p.pid, p.host FROM custody AS c LEFT JOIN processor AS p ON p.owner = c.owner
WHERE c.workflow_id = :workflow_id;

-- take_custody -- A processor works at a workflow, and at those that it has begun, from now on.
WITH RECURSIVE family (id) AS (
    SELECT CAST(:workflow_id AS TEXT)
    UNION
    SELECT json_extract(s.context, '$._sub_workflow_id') FROM family JOIN stage AS s ON s.workflow_id = family.id
    WHERE json_extract(s.context, '$._sub_workflow_id') IS NOT NULL
)
INSERT INTO custody (workflow_id, owner) SELECT id, :owner FROM family WHERE true
ON CONFLICT (workflow_id) DO UPDATE SET owner = excluded.owner;

-- take_custody_alone -- A processor works at a workflow alone: what a fork has copied names those that another has begun.
INSERT INTO custody (workflow_id, owner) VALUES (:workflow_id, :owner)
ON CONFLICT (workflow_id) DO UPDATE SET owner = excluded.owner;

-- inherit_custody -- Whoever works at a workflow works at the one that it begins. Primary key.
INSERT INTO custody (workflow_id, owner) SELECT :child, owner FROM custody WHERE workflow_id = :workflow_id
ON CONFLICT DO NOTHING;

-- delete_custody_of -- Part of deleting workflows.
DELETE FROM custody WHERE workflow_id IN (SELECT value FROM json_each(:ids));

-- migrations -- What has been applied.
SELECT name, checksum, applied_at FROM migration ORDER BY name;

-- insert_migration -- A migration was applied.
INSERT INTO migration (name, checksum, applied_at) VALUES (:name, :checksum, :applied_at);

-- moving -- Whether work of a workflow is at hand: a row that runs, or a message that can move it. Whatever holds it open and does not wait runs. Indexes stage_parked, stage_waiting, message_left.
SELECT EXISTS (SELECT 1 FROM workflow WHERE id = :workflow_id AND active
       > (SELECT count(*) FROM stage WHERE workflow_id = :workflow_id AND (status = 'PAUSED' OR status = 'SUSPENDED'))
       + (SELECT count(*) FROM stage WHERE workflow_id = :workflow_id AND waits <> '' AND waits <> 'milestone'
          AND status = 'NOT_STARTED')),
       EXISTS (SELECT 1 FROM message WHERE workflow_id = :workflow_id AND done_at IS NULL AND dead_at IS NULL
               AND (counts = 1 OR kind IN ('RunTask', 'JumpToStage', 'SignalStage', 'CancelStage', 'CancelWorkflow', 'ResumeWorkflow', 'RestartStage', 'MigrateWorkflow'))
               AND (task_type IS NULL OR owner IS NOT NULL OR task_type IN (SELECT value FROM json_each(:known))));

-- log_heads -- How far the log of each workflow goes, and when it began.
SELECT id, sequence, created_at FROM workflow;

-- log_end -- How far a log goes for one workflow, and when it began. Index event_by_sequence.
SELECT coalesce(max(sequence), 0), (SELECT at FROM event WHERE workflow_id = :workflow_id AND sequence = 1)
FROM event WHERE workflow_id = :workflow_id;

-- position_of -- Where a fact stands in the log of all workflows. Index event_by_sequence.
SELECT position FROM event WHERE workflow_id = :workflow_id AND sequence = :sequence;

-- forget_other_log -- An earlier workflow of the same id, which was deleted, leaves the log. Index event_by_sequence.
DELETE FROM event WHERE workflow_id = :workflow_id
      AND EXISTS (SELECT 1 FROM event WHERE workflow_id = :workflow_id AND sequence = 1 AND at <> :at);

-- overview_runs -- Workflows of a status that have not ended, newest first, then those that have. Index workflow_unfinished, primary key.
SELECT * FROM (
    SELECT id, application, name, status, created_at, started_at, ended_at, error FROM workflow
    WHERE ended_at IS NULL AND (:application IS NULL OR application = :application) AND (:status IS NULL OR status = :status)
    ORDER BY created_at DESC, id DESC LIMIT :most
) AS unfinished
UNION ALL
SELECT * FROM (
    SELECT id, application, name, status, created_at, started_at, ended_at, error FROM workflow
    WHERE ended_at >= :since AND (:application IS NULL OR application = :application) AND (:status IS NULL OR status = :status)
    ORDER BY id DESC LIMIT :most
) AS ended;

-- overview_statuses -- How many workflows have which status.
SELECT status, count(*) FROM workflow WHERE (:application IS NULL OR application = :application) GROUP BY status;

-- overview_stages -- How many stages of some workflows have which status, and which are open. Index stage_by_ref.
SELECT s.workflow_id, s.status, count(*), min(s.ref_id) FROM json_each(:ids) AS wanted CROSS JOIN stage AS s ON s.workflow_id = wanted.value
GROUP BY s.workflow_id, s.status;

-- overview_bodies -- Bodies at work, longest first: of which stage, where, for how often. Index message_claimed.
SELECT m.workflow_id, w.name, s.ref_id, s.started_at, m.owner, m.deliveries FROM message AS m
JOIN workflow AS w ON w.id = m.workflow_id JOIN stage AS s ON s.id = m.stage_id
WHERE m.owner IS NOT NULL AND m.done_at IS NULL AND m.dead_at IS NULL AND m.task_type IS NOT NULL
      AND (:application IS NULL OR w.application = :application)
ORDER BY s.started_at, m.position LIMIT :most;

-- overview_queue -- Messages that are not done: bodies at work, other work at hand, due, due later, dead. Index message_left.
SELECT count(CASE WHEN owner IS NOT NULL AND task_type IS NOT NULL THEN 1 END),
       count(CASE WHEN owner IS NOT NULL AND task_type IS NULL THEN 1 END),
       count(CASE WHEN owner IS NULL AND dead_at IS NULL AND due_at <= :now THEN 1 END),
       count(CASE WHEN owner IS NULL AND dead_at IS NULL AND due_at > :now THEN 1 END),
       count(dead_at)
FROM message WHERE done_at IS NULL;

-- overview_rate -- Of the newest facts, stages that were completed since a time, and the oldest fact since then.
SELECT count(CASE WHEN type = 'stage.completed' THEN 1 END), count(*), min(at)
FROM (SELECT type, at FROM event ORDER BY position DESC LIMIT :most) AS newest WHERE at >= :since;

-- overview_processors -- Every processor that has announced itself, oldest first.
SELECT slot, owner, host, pid, started_at FROM processor ORDER BY started_at, slot;

-- overview_dead -- The newest dead letters. Index message_dead.
SELECT m.workflow_id, w.name, s.ref_id, m.kind, m.dead_at, m.error FROM message AS m
LEFT JOIN workflow AS w ON w.id = m.workflow_id LEFT JOIN stage AS s ON s.id = m.stage_id
WHERE m.dead_at IS NOT NULL ORDER BY m.dead_at DESC LIMIT :most;

-- doctor_gaps -- Workflows whose log has not as many facts as their header says.
SELECT w.id, w.sequence, count(e.sequence) FROM workflow AS w LEFT JOIN event AS e ON e.workflow_id = w.id
WHERE json_extract(w.about, '$.salvaged') IS NULL
GROUP BY w.id HAVING count(e.sequence) <> w.sequence OR coalesce(max(e.sequence), 0) <> w.sequence;

-- doctor_orphans -- Rows that belong to nothing, by what they are.
SELECT 'messages without their workflow', count(*) FROM message
WHERE done_at IS NULL AND NOT EXISTS (SELECT 1 FROM workflow WHERE id = message.workflow_id)
UNION ALL
SELECT 'stages without their workflow', count(*) FROM stage
WHERE NOT EXISTS (SELECT 1 FROM workflow WHERE id = stage.workflow_id)
UNION ALL
SELECT 'tasks without their stage', count(*) FROM task WHERE NOT EXISTS (SELECT 1 FROM stage WHERE id = task.stage_id)
UNION ALL
SELECT 'signals without their workflow', count(*) FROM signal
WHERE NOT EXISTS (SELECT 1 FROM workflow WHERE id = signal.workflow_id)
UNION ALL
SELECT 'results of steps without their workflow', count(*) FROM journal
WHERE NOT EXISTS (SELECT 1 FROM workflow WHERE id = journal.workflow_id)
UNION ALL
SELECT 'budgets without their workflow', count(*) FROM account
WHERE NOT EXISTS (SELECT 1 FROM workflow WHERE id = account.workflow_id);

-- doctor_stuck -- Unfinished workflows that nothing moves: no message, no wait, no pause.
SELECT w.id, w.name, w.status FROM workflow AS w
WHERE w.ended_at IS NULL AND w.paused = 0 AND w.status <> 'NOT_STARTED'
      AND NOT EXISTS (SELECT 1 FROM message WHERE workflow_id = w.id AND done_at IS NULL AND dead_at IS NULL)
      AND NOT EXISTS (SELECT 1 FROM stage WHERE workflow_id = w.id AND (status = 'SUSPENDED' OR waits <> ''))
      AND NOT EXISTS (SELECT 1 FROM waiter WHERE workflow_id = w.id)
ORDER BY w.created_at, w.id;

-- doctor_idle -- Stages at work for whose task no message asks.
SELECT s.workflow_id, s.ref_id FROM stage AS s JOIN workflow AS w ON w.id = s.workflow_id
WHERE s.status = 'RUNNING' AND s.phase = '' AND w.ended_at IS NULL AND w.paused = 0
      AND EXISTS (SELECT 1 FROM task WHERE stage_id = s.id)
      AND NOT EXISTS (SELECT 1 FROM message WHERE workflow_id = w.id AND stage_id = s.id AND done_at IS NULL AND dead_at IS NULL);

-- doctor_claims -- Claims of workflows that have ended or are not there.
SELECT c.name, c.workflow_id FROM claim AS c LEFT JOIN workflow AS w ON w.id = c.workflow_id
WHERE c.holder <> '' AND c.settled = 0 AND (w.id IS NULL OR w.ended_at IS NOT NULL);

-- doctor_lines -- Who waits for a claim, and who holds it.
SELECT r.workflow_id, s.ref_id, r.claim, c.workflow_id, CASE WHEN c.holder <> '' OR c.taken > 0 THEN 1 ELSE 0 END
FROM waiter AS r LEFT JOIN claim AS c ON c.name = r.claim LEFT JOIN stage AS s ON s.id = r.stage_id
ORDER BY r.claim, r.ticket;

-- doctor_waits -- Open stages of unfinished workflows, with when their tasks are due and who has them in hand.
SELECT w.id, w.name, w.status, s.ref_id, s.status, s.waits,
       (SELECT min(due_at) FROM message WHERE workflow_id = w.id AND stage_id = s.id AND done_at IS NULL AND dead_at IS NULL),
       json_extract(s.context, '$._sub_workflow_id'),
       (SELECT min(owner) FROM message WHERE workflow_id = w.id AND stage_id = s.id AND done_at IS NULL AND dead_at IS NULL)
FROM workflow AS w LEFT JOIN stage AS s ON s.workflow_id = w.id
     AND (s.status = 'RUNNING' OR s.status = 'PAUSED' OR s.status = 'SUSPENDED' OR s.status = 'BUFFERED' OR s.waits <> '')
WHERE w.ended_at IS NULL ORDER BY w.created_at, w.id, s.ordinal;

-- bodies_of -- The bodies of a workflow that are queued or in hand: their stage, their code, and who has them. Index message_left.
SELECT stage_id, task_type, owner FROM message
WHERE workflow_id = :workflow_id AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL ORDER BY position;

-- doctor_claimed -- Who has claimed how many messages, and until when at most.
SELECT m.owner, count(*), max(m.lease_until), p.pid, p.host FROM message AS m LEFT JOIN processor AS p ON p.owner = m.owner
WHERE m.owner IS NOT NULL AND m.done_at IS NULL AND m.dead_at IS NULL GROUP BY m.owner, p.pid, p.host;

-- doctor_sizes -- How many bytes each table takes, with its indexes.
SELECT t.tbl_name, sum(d.pgsize) FROM dbstat AS d JOIN sqlite_schema AS t ON t.name = d.name
GROUP BY t.tbl_name ORDER BY 2 DESC;

-- doctor_tables -- The tables that are there.
SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name;

-- doctor_counts -- How many workflows have ended, and how many have not.
SELECT count(ended_at), count(*) - count(ended_at) FROM workflow;

-- prunable -- Headers of ended workflows, but for the newest; without those that are spoken of and children of living ones, however far down.
WITH RECURSIVE alive (id) AS (
    SELECT id FROM workflow WHERE ended_at IS NULL
    UNION
    SELECT json_extract(s.context, '$._sub_workflow_id') FROM alive JOIN stage AS s ON s.workflow_id = alive.id
    WHERE json_extract(s.context, '$._sub_workflow_id') IS NOT NULL
)
SELECT id, application, name, status, created_at, started_at, ended_at, error FROM workflow AS w
WHERE ended_at IS NOT NULL AND ended_at <= :before AND id NOT IN (SELECT id FROM alive)
      AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
      AND NOT EXISTS (SELECT 1 FROM message WHERE workflow_id = w.id AND done_at IS NULL)
ORDER BY ended_at DESC, id DESC LIMIT -1 OFFSET :newest;

-- busy_among -- Which of some workflows have been restarted or are spoken of. Primary key.
SELECT w.id FROM json_each(:ids) AS wanted JOIN workflow AS w ON w.id = wanted.value
WHERE w.ended_at IS NULL OR EXISTS (SELECT 1 FROM message WHERE workflow_id = w.id AND done_at IS NULL);

-- messages_after -- Where the next so many messages end. Primary key.
SELECT max(position) FROM (SELECT position FROM message WHERE position > :after ORDER BY position LIMIT :most);

-- forget_done -- Messages of a range that have long been done go. Primary key.
DELETE FROM message WHERE position > :after AND position <= :until AND done_at < :before;

-- schema_objects -- What the schema of the file holds, for a look at what others have changed.
SELECT type, name, tbl_name, sql FROM sqlite_schema;
