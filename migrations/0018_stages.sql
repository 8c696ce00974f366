-- Where a scoring run's time goes, stage by stage: written with each task's scores, in the same transaction.

create table task_stages (
    task_id uuid             not null references tasks,
    -- That of the task. No foreign key: checking it would lock the job's row, for which a commit must not wait.
    job_id  uuid             not null,
    -- fetch, decode, infer, write
    stage   text             not null,
    -- Seconds. The three add up to the time that passed for the task.
    busy    double precision not null check (busy >= 0),
    starved double precision not null check (starved >= 0),
    blocked double precision not null check (blocked >= 0),
    primary key (task_id, stage)
);
create index task_stages_job on task_stages (job_id);

create view analytics.run_stages as
select s.job_id, s.stage, s.busy_seconds, s.starved_seconds, s.blocked_seconds,
       s.busy_seconds / nullif(s.busy_seconds + s.starved_seconds + s.blocked_seconds, 0) as busy_share,
       m.name as model, m.version as model_version, r.run_date, r.finished_at
from (
    select job_id, stage, sum(busy) as busy_seconds, sum(starved) as starved_seconds, sum(blocked) as blocked_seconds
    from task_stages group by job_id, stage
) s
join finished_runs r on r.job_id = s.job_id
join models m on m.id = r.model_id;
comment on view analytics.run_stages is 'What each stage of each finished scoring run did with its time, summed over its tasks: the busiest stage is the one that limited the run. Runs of releases before this was measured have no rows.';
comment on column analytics.run_stages.job_id is 'The run; see job_runs.';
comment on column analytics.run_stages.stage is 'fetch (bytes from the object store), decode (bytes to pixels), infer (batches through the network) or write (scores to Postgres).';
comment on column analytics.run_stages.busy_seconds is 'Seconds for which it worked; decoding with several threads counts in part when some of them work.';
comment on column analytics.run_stages.starved_seconds is 'Seconds for which it waited for the stage before.';
comment on column analytics.run_stages.blocked_seconds is 'Seconds for which it waited for room: in memory, in the stage after, or for a task to end.';
comment on column analytics.run_stages.busy_share is 'The share of those seconds that it worked, 0 to 1.';
comment on column analytics.run_stages.model is 'The model that it scored with: its name.';
comment on column analytics.run_stages.model_version is 'That model''s version.';
comment on column analytics.run_stages.run_date is 'The day (UTC) on which the run was planned.';
comment on column analytics.run_stages.finished_at is 'When it ended.';

grant select on analytics.run_stages to perito_analyst;
