-- The operator's hands: pausing, priorities and limits of jobs that run, and the registry of workers; and indexes with which a round
-- of dispatching or finishing costs the same at any backlog.

alter table jobs
    -- A flag and no state: a paused job keeps its place in its life.
    add column paused_at     timestamptz,
    -- The most tasks that are dispatched or running at once; null: as many as there is room for.
    add column concurrency   integer check (concurrency > 0),
    -- How often planning has failed for a reason that may pass, and when it is tried again.
    add column plan_failures integer not null default 0,
    add column plan_after    timestamptz,
    -- Frozen by the finisher: runnable, dispatched, running, succeeded, failed, cancelled.
    add column task_counts   bigint[] check (cardinality(task_counts) = 6);
create index jobs_scored on jobs (finished_at desc) where kind = 'score' and finished_at is not null;

-- A job's priority is the job's alone, so that a change is one row. The column goes in a later release.
alter table tasks alter column priority set default 4;

drop index tasks_runnable;
create index tasks_runnable on tasks (job_id, ordinal) where state = 'runnable';
create index tasks_in_flight on tasks (kind, job_id) where state in ('dispatched', 'running');
create index tasks_failed on tasks (job_id, ordinal) where state = 'failed';
create index tasks_with_failures on tasks (job_id) include (images_failed) where images_failed > 0;
create index tasks_scored on tasks (finished_at) include (images_scored, images_failed) where kind = 'score' and state = 'succeeded';

-- Workers that live, or did a moment ago. What one runs is in tasks.
create table workers (
    name         text        primary key check (length(name) between 1 and 253),
    -- One life of the process: another one under the same name starts anew.
    instance     uuid        not null,
    version      text        not null,
    device       text        not null,
    kinds        text[]      not null,
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    -- Since when it is to take nothing new.
    drained_at   timestamptz
) with (fillfactor = 50);
