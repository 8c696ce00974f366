-- Tasks whose workers die: a scoring task is split in halves, down to the one image that does it. And what each attempt came to.

alter table tasks
    drop constraint tasks_state_check,
    -- `split`: its images are its children's. A final state.
    add constraint tasks_state_check
        check (state in ('runnable', 'dispatched', 'running', 'succeeded', 'failed', 'cancelled', 'split')),
    -- The task that it is a half of.
    add column parent_id uuid references tasks,
    -- Attempts after which nobody heard of their worker again.
    add column crashes   integer not null default 0;

alter table attempts
    -- What the retry policy made of its error; null when there was none, or for attempts of an earlier release.
    add column error_class text check (error_class in ('transient', 'permanent', 'silent', 'outage', 'shutdown'));

create view analytics.task_attempts as
select j.id as job_id, j.kind, a.task_id, t.ordinal as task, a.attempt, a.worker, a.started_at, a.ended_at,
       extract(epoch from a.ended_at - a.started_at)::double precision as seconds, a.outcome, a.error_class, a.error
from jobs j
join tasks t on t.job_id = j.id
join attempts a on a.task_id = t.id
where j.state in ('succeeded', 'failed', 'cancelled');
comment on view analytics.task_attempts is 'Each time a worker took a task of a run that has ended: what came of it, and why.';
comment on column analytics.task_attempts.job_id is 'The run; see job_runs.';
comment on column analytics.task_attempts.kind is 'train, score, evaluate or sweep.';
comment on column analytics.task_attempts.task_id is 'The task.';
comment on column analytics.task_attempts.task is 'The task''s number within the run, from 0.';
comment on column analytics.task_attempts.attempt is 'The attempt''s number: it goes up with each claim, and when a task is taken back.';
comment on column analytics.task_attempts.worker is 'The worker''s name.';
comment on column analytics.task_attempts.started_at is 'When the worker took the task.';
comment on column analytics.task_attempts.ended_at is 'When the attempt ended.';
comment on column analytics.task_attempts.seconds is 'How long it took, in seconds.';
comment on column analytics.task_attempts.outcome is 'succeeded, retried, failed, released (given back on shutdown), expired (the worker went silent) or cancelled.';
comment on column analytics.task_attempts.error_class is 'transient, permanent, silent (the worker was not heard of in time), outage (the database was away when the lease ran out) or shutdown (the worker was told to stop); null when nothing went wrong.';
comment on column analytics.task_attempts.error is 'What went wrong; null when nothing did.';

grant select on analytics.task_attempts to perito_analyst;

-- The coordinator gives up an image that kills workers, and takes back what is to be done again.
grant insert, delete on image_failures to perito_coordinator;
grant delete on run_costs to perito_coordinator;
