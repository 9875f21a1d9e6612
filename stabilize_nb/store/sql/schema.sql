-- The whole schema. Ids are 26-character text, times are integer ms since the epoch (UTC), documents are JSON text.
-- Constraints repeat the invariants of the core; partial indexes hold only rows that are still of interest.
-- Choices are written with OR: SQLite builds a table in memory for an IN of three or more, for every row that it checks.

CREATE TABLE workflow (
    id TEXT NOT NULL PRIMARY KEY,
    application TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status = 'SUCCEEDED' OR status = 'RUNNING' OR status = 'NOT_STARTED' OR status = 'BUFFERED'
        OR status = 'PAUSED' OR status = 'TERMINAL' OR status = 'CANCELED'),
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    ending TEXT CHECK (ending = 'SUCCEEDED' OR ending = 'TERMINAL' OR ending = 'CANCELED'),
    cancels INTEGER NOT NULL DEFAULT 0,
    late_failures INTEGER NOT NULL DEFAULT 0,
    active INTEGER NOT NULL DEFAULT 0 CHECK (active >= 0),
    sequence INTEGER NOT NULL DEFAULT 0,
    jumps INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    context TEXT NOT NULL,
    about TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    lane TEXT NOT NULL DEFAULT '',
    slots INTEGER NOT NULL DEFAULT 0,
    keeps_waiting INTEGER NOT NULL DEFAULT 1 CHECK (keeps_waiting IN (0, 1)),
    slot INTEGER NOT NULL DEFAULT 0 CHECK (slot IN (0, 1)),
    CHECK ((ended_at IS NOT NULL) = (status = 'SUCCEEDED' OR status = 'TERMINAL' OR status = 'CANCELED'))
) WITHOUT ROWID;
CREATE INDEX workflow_by_application ON workflow (application, created_at);
CREATE INDEX workflow_unfinished ON workflow (created_at) WHERE ended_at IS NULL;
CREATE INDEX workflow_forks ON workflow (json_extract(about, '$.forked_from.run'))
    WHERE json_extract(about, '$.forked_from.run') IS NOT NULL;

-- Which run was started for a key. Two starts for one key are one run, whichever process they come from.
CREATE TABLE start_key (
    key TEXT NOT NULL PRIMARY KEY,
    workflow_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX start_key_of_workflow ON start_key (workflow_id);

-- When bodies under a limit may begin; of each limit the last ones (models/limit.py).
CREATE TABLE permit (
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID;

-- By what runs are found. Ids of workflows are in the order of time.
CREATE TABLE attribute (
    workflow_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (workflow_id, name)
) WITHOUT ROWID;
CREATE INDEX attribute_value ON attribute (name, value, workflow_id);

-- What is started again and again. Whoever moves `next_due` on starts what was due (store/schedules.py).
CREATE TABLE schedule (
    key TEXT NOT NULL PRIMARY KEY,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    catch_up TEXT NOT NULL CHECK (catch_up = 'one' OR catch_up = 'all' OR catch_up = 'skip'),
    definition TEXT NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    next_due INTEGER,
    last_due INTEGER,
    last_run TEXT,
    error TEXT
) WITHOUT ROWID;
CREATE INDEX schedule_due ON schedule (next_due) WHERE paused = 0;

CREATE TABLE stage (
    id TEXT NOT NULL PRIMARY KEY,
    workflow_id TEXT NOT NULL,
    base_id TEXT NOT NULL,
    ref_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    spec TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status = 'SUCCEEDED' OR status = 'RUNNING' OR status = 'NOT_STARTED' OR status = 'PAUSED'
        OR status = 'SUSPENDED' OR status = 'FAILED_CONTINUE' OR status = 'TERMINAL'
        OR status = 'CANCELED' OR status = 'REDIRECT' OR status = 'STOPPED' OR status = 'SKIPPED'
        OR status = 'BUFFERED'),
    generation INTEGER NOT NULL,
    activation INTEGER NOT NULL,
    fired INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    softly_failed INTEGER NOT NULL,
    triggers TEXT NOT NULL,
    inherited TEXT NOT NULL,
    context TEXT NOT NULL,
    outputs TEXT NOT NULL,
    error TEXT,
    started_at INTEGER,
    ended_at INTEGER,
    waits TEXT NOT NULL,
    phase TEXT NOT NULL,
    added INTEGER NOT NULL,
    closed INTEGER NOT NULL CHECK (closed IN (0, 1)),
    via TEXT NOT NULL,
    CHECK ((base_id = id) = (activation = 1))
) WITHOUT ROWID;
CREATE UNIQUE INDEX stage_by_ref ON stage (workflow_id, ref_id);
CREATE INDEX stage_activations ON stage (base_id) WHERE activation > 1;
-- Without what runs: an index that every stage enters and leaves would cost a page in every commit.
CREATE INDEX stage_parked ON stage (workflow_id)
    WHERE status = 'PAUSED' OR status = 'SUSPENDED';
CREATE INDEX stage_waiting ON stage (workflow_id) WHERE waits <> '';

CREATE TABLE task (
    id TEXT NOT NULL,
    stage_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    implementing_class TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    polls INTEGER NOT NULL,
    due INTEGER,
    signal TEXT,
    error TEXT,
    first_started_at INTEGER,
    started_at INTEGER,
    ended_at INTEGER,
    PRIMARY KEY (stage_id, position)
) WITHOUT ROWID;

CREATE TABLE round (
    stage_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    workflow_id TEXT NOT NULL,
    live INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    halt INTEGER NOT NULL,
    settled INTEGER NOT NULL CHECK (settled IN (0, 1)),
    PRIMARY KEY (stage_id, generation, number)
) WITHOUT ROWID;
CREATE INDEX round_waiting ON round (workflow_id) WHERE settled = 0 AND live > 0;

CREATE TABLE arrival (
    stage_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    via TEXT NOT NULL,
    token TEXT NOT NULL CHECK (token = 'LIVE' OR token = 'DEAD' OR token = 'HALT'),
    source TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    held INTEGER NOT NULL CHECK (held IN (0, 1)),
    position INTEGER NOT NULL,
    PRIMARY KEY (stage_id, generation, number, via)
) WITHOUT ROWID;
CREATE INDEX arrival_held ON arrival (workflow_id) WHERE held = 1;

CREATE TABLE signal (
    id TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL,
    workflow_id TEXT NOT NULL,
    stage_id TEXT NOT NULL,
    name TEXT NOT NULL,
    data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX signal_by_workflow ON signal (workflow_id, position);

CREATE TABLE claim (
    name TEXT NOT NULL PRIMARY KEY,
    workflow_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    settled INTEGER NOT NULL CHECK (settled IN (0, 1)),
    taken INTEGER NOT NULL,
    tickets INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX claim_of_workflow ON claim (workflow_id);

CREATE TABLE waiter (
    claim TEXT NOT NULL,
    stage_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    ticket INTEGER NOT NULL,
    holder TEXT NOT NULL,
    PRIMARY KEY (claim, stage_id)
) WITHOUT ROWID;
CREATE INDEX waiter_in_line ON waiter (claim, ticket);
CREATE INDEX waiter_of_workflow ON waiter (workflow_id);

-- Steps of bodies. A call of a model or tool is begun and then settled; each time it is made again is a row of its own.
CREATE TABLE journal (
    stage_id TEXT NOT NULL,
    call TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    made INTEGER NOT NULL,
    workflow_id TEXT NOT NULL,
    ref_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'step' OR kind = 'model' OR kind = 'tool'),
    target TEXT,
    attempt INTEGER NOT NULL,
    value TEXT,
    error TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cost INTEGER,              -- in 1/1,000,000,000 USD
    held_tokens INTEGER NOT NULL DEFAULT 0,
    held_cost INTEGER NOT NULL DEFAULT 0,
    begun_at INTEGER NOT NULL,
    at INTEGER,
    PRIMARY KEY (stage_id, call, name, number, made),
    CHECK (value IS NULL OR at IS NOT NULL)
) WITHOUT ROWID;
CREATE INDEX journal_of_workflow ON journal (workflow_id);

-- Budgets of workflows: what may be taken, what was, and what is reserved for calls at work.
CREATE TABLE account (
    workflow_id TEXT NOT NULL PRIMARY KEY,
    call_limit INTEGER,
    token_limit INTEGER,
    cost_limit INTEGER,
    calls INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    held_tokens INTEGER NOT NULL DEFAULT 0 CHECK (held_tokens >= 0),
    held_cost INTEGER NOT NULL DEFAULT 0 CHECK (held_cost >= 0)
) WITHOUT ROWID;

CREATE TABLE message (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workflow_id TEXT NOT NULL,
    stage_id TEXT,
    kind TEXT NOT NULL,
    task_type TEXT,
    payload TEXT NOT NULL,
    counts INTEGER NOT NULL,
    timer INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    owner TEXT,
    lease_until INTEGER,
    deliveries INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    done_at INTEGER,
    dead_at INTEGER,
    error TEXT,
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK (done_at IS NULL OR dead_at IS NULL)
);
CREATE INDEX message_due ON message (timer, due_at, position)
    WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NULL;
CREATE INDEX message_body ON message (due_at, position)
    WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL;
CREATE INDEX message_turn ON message (workflow_id, due_at, position)
    WHERE owner IS NULL AND done_at IS NULL AND dead_at IS NULL AND task_type IS NOT NULL;
CREATE INDEX message_claimed ON message (owner) WHERE owner IS NOT NULL AND done_at IS NULL AND dead_at IS NULL;
CREATE INDEX message_left ON message (workflow_id) WHERE done_at IS NULL;
CREATE INDEX message_dead ON message (dead_at) WHERE dead_at IS NOT NULL;

CREATE TABLE event (
    position INTEGER PRIMARY KEY,
    workflow_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    type TEXT NOT NULL,
    at INTEGER NOT NULL,
    stage_id TEXT,
    data TEXT NOT NULL
);
CREATE UNIQUE INDEX event_by_sequence ON event (workflow_id, sequence);

-- Large parts of documents by the SHA-256 of their text, in pieces, and who refers to them (store/blobs.py).
CREATE TABLE blob (
    digest TEXT NOT NULL,
    part INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (digest, part)
) WITHOUT ROWID;

CREATE TABLE blob_use (
    workflow_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (workflow_id, digest)
) WITHOUT ROWID;
CREATE INDEX blob_users ON blob_use (digest);

-- Checkpoints of LangGraph's graphs (langgraph/saver.py): bodies are what its serializer wrote, `kind` says how. A value of a
-- channel stands once for each of its versions; `versions` says which ones a checkpoint has.
CREATE TABLE graph_checkpoint (
    thread_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    checkpoint_id TEXT NOT NULL,
    parent_id TEXT,
    run_id TEXT,
    versions TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    meta_kind TEXT NOT NULL,
    meta BLOB NOT NULL,
    PRIMARY KEY (thread_id, namespace, checkpoint_id)
);
CREATE INDEX graph_checkpoint_of_run ON graph_checkpoint (run_id) WHERE run_id IS NOT NULL;

CREATE TABLE graph_channel (
    thread_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (thread_id, namespace, channel, version)
);

-- What tasks of a graph have written after a checkpoint; special writes have negative numbers.
CREATE TABLE graph_write (
    thread_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    path TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (thread_id, namespace, checkpoint_id, task_id, number)
);

CREATE TABLE processor (
    slot INTEGER PRIMARY KEY,
    owner TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    lease INTEGER NOT NULL,  -- ms without a sign of life after which its claims are nobody's
    takes TEXT NOT NULL DEFAULT '[]'  -- names of the tasks that it runs
);

-- Which processor works at a workflow; one that shares work does not ask (queue/processor/custody.py).
CREATE TABLE custody (
    workflow_id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE migration (
    name TEXT NOT NULL PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) WITHOUT ROWID;
