-- Jobs, their tasks and each task's attempts. The tasks table is the outbox: what is runnable here gets a message.

create table jobs (
    id              uuid        primary key,
    kind            text        not null check (kind in ('train', 'score', 'evaluate')),
    state           text        not null default 'queued'
                                check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    spec            jsonb       not null,
    -- 0 to 9; higher is dispatched first.
    priority        smallint    not null default 4 check (priority between 0 and 9),
    idempotency_key text        unique check (length(idempotency_key) between 1 and 128),
    -- W3C traceparent of the submitting request; empty when there was none.
    traceparent     text        not null default '',
    -- Resolved by the planner.
    model_id        bigint      references models,
    dataset_id      bigint      references datasets,
    -- The day (UTC) of planning: it places all of the job's predictions in one partition, and so makes their
    -- uniqueness by (job, image) enforceable.
    run_date        date,
    images_total    bigint,
    -- Frozen by the finisher; while the job runs they are the sums over its tasks.
    images_scored   bigint,
    images_failed   bigint,
    error           text,
    created_at      timestamptz not null default now(),
    planned_at      timestamptz,
    finished_at     timestamptz
);
create index jobs_open on jobs (state, priority desc, created_at) where state in ('queued', 'running');
create index jobs_recent on jobs (created_at desc);
create index jobs_by_model on jobs (model_id, state) where kind = 'score';

alter table models add foreign key (job_id) references jobs;

create table tasks (
    id               uuid        primary key,
    job_id           uuid        not null references jobs,
    kind             text        not null check (kind in ('train', 'score', 'evaluate')),
    ordinal          integer     not null,
    priority         smallint    not null,
    state            text        not null default 'runnable'
                                 check (state in ('runnable', 'dispatched', 'running', 'succeeded', 'failed', 'cancelled')),
    -- The shard of a scoring task.
    image_ids        bigint[]    not null default '{}',
    -- The fencing token: goes up with each claim, before any work starts, and never down.
    attempt          integer     not null default 0,
    -- Attempts that count against the limit: an attempt that was released unfinished is given back.
    attempts_spent   integer     not null default 0,
    max_attempts     integer     not null default 5,
    -- Backoff: not claimable before.
    not_before       timestamptz not null default now(),
    worker           text,
    lease_expires_at timestamptz,
    dispatched_at    timestamptz,
    started_at       timestamptz,
    finished_at      timestamptz,
    images_scored    integer     not null default 0,
    images_failed    integer     not null default 0,
    error            text,
    unique (job_id, ordinal),
    check ((state = 'running') = (lease_expires_at is not null))
);
create index tasks_runnable on tasks (kind, priority desc, job_id, ordinal) where state = 'runnable';
create index tasks_dispatched on tasks (kind, dispatched_at) where state = 'dispatched';
create index tasks_leased on tasks (lease_expires_at) where state = 'running';

-- One row per claim of a task by a worker.
create table attempts (
    task_id    uuid        not null references tasks,
    attempt    integer     not null,
    worker     text        not null,
    started_at timestamptz not null default now(),
    ended_at   timestamptz,
    outcome    text        check (outcome in ('succeeded', 'retried', 'failed', 'released', 'expired', 'cancelled')),
    error      text,
    primary key (task_id, attempt),
    check ((ended_at is null) = (outcome is null))
);
