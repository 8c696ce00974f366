-- Schedules, and what became of each of their fire times.

create table schedules (
    id            bigint      generated always as identity primary key,
    name          text        not null check (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    -- Expression, zone, job and policies, completed with defaults.
    spec          jsonb       not null,
    -- Every fire time up to here has been decided. Goes back only when the clock does.
    decided_until timestamptz not null,
    paused_at     timestamptz,
    -- A schedule that was removed keeps its runs, and gives its name free.
    removed_at    timestamptz,
    created_at    timestamptz not null default now()
);
create unique index schedules_by_name on schedules (name) where removed_at is null;

-- One row per schedule and time, whatever fired it: this key is why each time fires once.
create table schedule_runs (
    schedule_id        bigint      not null references schedules,
    fire_at            timestamptz not null,
    fired_by           text        not null check (fired_by in ('clock', 'operator', 'backfill')),
    outcome            text        not null check (outcome in ('submitted', 'waiting', 'skipped', 'missed')),
    -- Why nothing was submitted.
    reason             text,
    job_id             uuid        unique references jobs,
    decided_at         timestamptz not null,
    submitted_at       timestamptz,
    -- When the job has to be done, and what happens otherwise: as the schedule said when the run was decided.
    deadline_at        timestamptz,
    deadline_action    text        check (deadline_action in ('alarm', 'cancel')),
    -- What was found at the deadline: missed is the alarm.
    deadline_outcome   text        check (deadline_outcome in ('met', 'missed')),
    primary key (schedule_id, fire_at),
    check ((outcome = 'submitted') = (job_id is not null)),
    check ((job_id is null) = (submitted_at is null)),
    check ((deadline_at is null) = (deadline_action is null))
);
create index schedule_runs_waiting on schedule_runs (schedule_id, fire_at) where outcome = 'waiting';
create index schedule_runs_deadline on schedule_runs (deadline_at)
    where deadline_outcome is null and outcome in ('submitted', 'waiting');
-- The few jobs that a schedule may have open, among all that it ever had.
create index jobs_unfinished on jobs (id) where finished_at is null;

create view analytics.schedule_runs as
select s.name as schedule, r.fire_at, r.fire_at at time zone (s.spec ->> 'zone') as local_fire_at, s.spec ->> 'zone' as zone,
       r.fired_by, r.outcome, r.reason, r.job_id, j.state as job_state,
       extract(epoch from r.submitted_at - r.fire_at)::double precision as lateness_seconds,
       j.finished_at as job_finished_at, r.deadline_at, r.deadline_outcome
from schedule_runs r
join schedules s on s.id = r.schedule_id
left join jobs j on j.id = r.job_id;
comment on view analytics.schedule_runs is 'Each fire time of each schedule, removed ones too, and what became of it.';
comment on column analytics.schedule_runs.schedule is 'The schedule''s name.';
comment on column analytics.schedule_runs.fire_at is 'The time that the schedule names; for a run by hand, when it was asked for.';
comment on column analytics.schedule_runs.local_fire_at is 'The same in the schedule''s time zone.';
comment on column analytics.schedule_runs.zone is 'The schedule''s time zone, an IANA name.';
comment on column analytics.schedule_runs.fired_by is 'clock, operator (run by hand) or backfill.';
comment on column analytics.schedule_runs.outcome is 'submitted; waiting for the schedule''s open job; skipped because of one; or missed, because nobody was there to fire in time.';
comment on column analytics.schedule_runs.reason is 'Why nothing was submitted.';
comment on column analytics.schedule_runs.job_id is 'The job that was submitted; see job_runs once it has ended.';
comment on column analytics.schedule_runs.job_state is 'Where that job is now.';
comment on column analytics.schedule_runs.lateness_seconds is 'From the fire time to the submission, in seconds, jitter included.';
comment on column analytics.schedule_runs.job_finished_at is 'When the job ended, if it has.';
comment on column analytics.schedule_runs.deadline_at is 'When the job had to be done, if the schedule has a deadline.';
comment on column analytics.schedule_runs.deadline_outcome is 'met when the job had succeeded by then, else missed; null before.';
grant select on analytics.schedule_runs to perito_analyst;
