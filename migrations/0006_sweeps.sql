-- Sweeps: many training runs measured against each other, and one more for the winner.

alter table jobs drop constraint jobs_kind_check, add constraint jobs_kind_check
    check (kind in ('train', 'score', 'evaluate', 'sweep'));
alter table tasks drop constraint tasks_kind_check, add constraint tasks_kind_check
    check (kind in ('train', 'score', 'evaluate', 'sweep'));

-- One row per run of a trial: a trial has as many as the sweep has folds, or one. The winner's training is a task without a row here.
create table sweep_runs (
    job_id      uuid    not null references jobs,
    trial       integer not null,
    -- Counted from 0; 0 without cross-validation too.
    fold        integer not null,
    task_id     uuid    not null unique references tasks,
    -- What the trial does not have in common with the others, by path.
    parameters  jsonb   not null,
    accuracy    double precision,
    macro_f1    double precision,
    log_loss    double precision,
    best_epoch  integer,
    -- Why the recipe cannot be trained, as when its loss is no number any more: the trial is out, the sweep goes on.
    error       text,
    finished_at timestamptz,
    primary key (job_id, trial, fold),
    check (finished_at is null or (macro_f1 is null) = (error is not null))
);

-- Trials from the best to the worst; those that are not done, or have failed, have no rank. One definition, for the winner too.
create view sweep_leaderboard as
select *, case when macro_f1 is not null
               then row_number() over (partition by job_id order by macro_f1 desc nulls last, log_loss, trial) end as rank
from (
    select job_id, trial, (array_agg(parameters))[1] as parameters,
           count(*) as runs, count(finished_at) as runs_done, count(*) filter (where error is not null) as runs_failed,
           case when count(macro_f1) = count(*) then avg(macro_f1) end as macro_f1,
           case when count(macro_f1) = count(*) then stddev_samp(macro_f1) end as macro_f1_deviation,
           case when count(macro_f1) = count(*) then avg(accuracy) end as accuracy,
           case when count(macro_f1) = count(*) then avg(log_loss) end as log_loss,
           case when count(macro_f1) = count(*) then avg(best_epoch)::double precision end as best_epoch,
           min(error) as error
    from sweep_runs group by job_id, trial
) measured;

create view analytics.sweep_leaderboard as
select l.job_id, m.name as model, m.version as model_version, l.rank, l.trial, l.parameters, l.runs, l.runs_failed,
       l.macro_f1, l.macro_f1_deviation, l.accuracy, l.log_loss, l.best_epoch, l.error
from finished_runs r
join sweep_leaderboard l on l.job_id = r.job_id
join models m on m.job_id = r.job_id;
comment on view analytics.sweep_leaderboard is 'The trials of each finished sweep, from the best to the worst.';
comment on column analytics.sweep_leaderboard.job_id is 'The sweep; see job_runs.';
comment on column analytics.sweep_leaderboard.model is 'The model that the best trial became: its name.';
comment on column analytics.sweep_leaderboard.model_version is 'The model that the best trial became: its version.';
comment on column analytics.sweep_leaderboard.rank is 'From 1, by macro F1; null for a trial that could not be trained.';
comment on column analytics.sweep_leaderboard.trial is 'The trial, counted from 0 in the order of the specification.';
comment on column analytics.sweep_leaderboard.parameters is 'What the trial does not have in common with the others.';
comment on column analytics.sweep_leaderboard.runs is 'Training runs that measured it: the folds of a cross-validation, or one.';
comment on column analytics.sweep_leaderboard.runs_failed is 'Those that could not be trained.';
comment on column analytics.sweep_leaderboard.macro_f1 is 'Mean over the runs of the best epoch''s macro F1.';
comment on column analytics.sweep_leaderboard.macro_f1_deviation is 'Sample standard deviation of macro F1 over the folds.';
comment on column analytics.sweep_leaderboard.accuracy is 'Mean over the runs of the best epoch''s accuracy.';
comment on column analytics.sweep_leaderboard.log_loss is 'Mean over the runs of the best epoch''s cross-entropy, in nats.';
comment on column analytics.sweep_leaderboard.best_epoch is 'Mean over the runs of the best epoch''s number.';
comment on column analytics.sweep_leaderboard.error is 'Why it could not be trained, if it could not.';
comment on column analytics.job_runs.kind is 'train, score, evaluate or sweep.';
grant select on analytics.sweep_leaderboard to perito_analyst;
