-- What analysts ask of millions of scores, answered from summaries; what a run costs; and how old runs leave.
--
-- Summaries are written by a trigger in the transaction that ends the run, whoever ends it, so that they show in the same moment as
-- the run's rows, and a coordinator of an earlier release writes them too.

-- The latest score of each photograph that has one.
create table latest_scores (
    image_id    bigint      primary key,
    job_id      uuid        not null,
    model_id    bigint      not null,
    severity    severity    not null,
    p_minor     real        not null,
    p_moderate  real        not null,
    p_severe    real        not null,
    scored_at   timestamptz not null,
    -- When the run ended: of two runs, the one that ended later counts.
    finished_at timestamptz not null,
    -- Whether that run has been archived: then it is not shown, and still known to be there.
    archived    boolean     not null default false
);
create index latest_scores_by_confidence on latest_scores (greatest(p_minor, p_moderate, p_severe)) where not archived;

-- A scoring run's classes.
create table run_severities (
    job_id         uuid             not null references jobs,
    severity       severity         not null,
    images         bigint           not null,
    confidence_sum double precision not null,
    -- With a confidence below 0.5.
    unsure         bigint           not null,
    primary key (job_id, severity)
);

-- A scoring run's probabilities: how many photographs have the probability of this class in [bin / 20, (bin + 1) / 20); the last bin
-- has 1 too. Bins of equal width, the same for all runs, so that runs can be added up and compared.
create table score_histograms (
    job_id   uuid     not null references jobs,
    severity severity not null,
    bin      smallint not null check (bin between 0 and 19),
    images   bigint   not null,
    primary key (job_id, severity, bin)
);

-- What a run took, whatever its end.
create table run_costs (
    job_id              uuid             primary key references jobs,
    attempts            integer          not null,
    -- Those that did not succeed.
    attempts_lost       integer          not null,
    workers             integer          not null,
    started_at          timestamptz,
    device_seconds      double precision not null,
    device_seconds_lost double precision not null
);
-- What a worker did in a time that has just ended.
create index attempts_by_worker on attempts (worker, ended_at);

-- A worker drives one device and may run several tasks at once. While it does, each second of the device is shared evenly between
-- them; so the costs of all runs add up to the time for which devices had work.
create function summarise_costs(run jobs) returns void language sql as $$
    with mine as (
        select a.worker, a.started_at, coalesce(a.ended_at, run.finished_at) as ended_at, a.outcome
        from tasks t join attempts a on a.task_id = t.id
        where t.job_id = run.id
    ), spans as (
        select worker, min(started_at) as first, max(ended_at) as last from mine group by worker
    ), others as (
        select a.worker, greatest(a.started_at, s.first) as started_at, least(coalesce(a.ended_at, s.last), s.last) as ended_at
        from spans s
        join attempts a on a.worker = s.worker and (a.ended_at > s.first or a.ended_at is null) and a.started_at < s.last
        join tasks t on t.id = a.task_id
        where t.job_id <> run.id
    ), events as (
        select worker, started_at as at, 1 as held, 1 as kept, 1 as all_held from mine where outcome = 'succeeded'
        union all select worker, ended_at, -1, -1, -1 from mine where outcome = 'succeeded'
        union all select worker, started_at, 1, 0, 1 from mine where outcome is distinct from 'succeeded'
        union all select worker, ended_at, -1, 0, -1 from mine where outcome is distinct from 'succeeded'
        union all select worker, started_at, 0, 0, 1 from others
        union all select worker, ended_at, 0, 0, -1 from others
    ), segments as (
        select sum(held) over so_far as held, sum(kept) over so_far as kept, sum(all_held) over so_far as all_held,
               extract(epoch from lead(at) over so_far - at)::double precision as seconds
        from events
        window so_far as (partition by worker order by at rows unbounded preceding)
    )
    insert into run_costs (job_id, attempts, attempts_lost, workers, started_at, device_seconds, device_seconds_lost)
    select run.id, count(*), count(*) filter (where outcome is distinct from 'succeeded'), count(distinct worker), min(started_at),
           coalesce((select sum(seconds * held / all_held) from segments where all_held > 0), 0),
           coalesce((select sum(seconds * (held - kept) / all_held) from segments where all_held > 0), 0)
    from mine
    on conflict (job_id) do nothing
$$;

create function summarise_scores(run jobs) returns void language plpgsql as $$
begin
    insert into run_severities (job_id, severity, images, confidence_sum, unsure)
    select run.id, severity, count(*), sum(greatest(p_minor, p_moderate, p_severe)::double precision),
           count(*) filter (where greatest(p_minor, p_moderate, p_severe) < 0.5)
    from predictions where job_id = run.id and run_date = run.run_date
    group by severity
    on conflict do nothing;

    insert into score_histograms (job_id, severity, bin, images)
    select run.id, class, bin, sum(images)
    from (
        select least(floor(p_minor * 20), 19)::smallint as minor, least(floor(p_moderate * 20), 19)::smallint as moderate,
               least(floor(p_severe * 20), 19)::smallint as severe, count(*) as images
        from predictions where job_id = run.id and run_date = run.run_date
        group by 1, 2, 3
    ) counted
    cross join lateral (values ('minor'::severity, minor), ('moderate', moderate), ('severe', severe)) as bins(class, bin)
    group by class, bin
    on conflict do nothing;

    perform rank_scores(run);
end
$$;

-- Makes the run's scores the latest ones, where they are. In order of images, so that two runs that end at once wait for each other
-- and never deadlock.
create function rank_scores(run jobs) returns void language sql as $$
    insert into latest_scores (image_id, job_id, model_id, severity, p_minor, p_moderate, p_severe, scored_at, finished_at)
    select image_id, run.id, run.model_id, severity, p_minor, p_moderate, p_severe, scored_at, run.finished_at
    from predictions where job_id = run.id and run_date = run.run_date
    order by image_id
    on conflict (image_id) do update
    set job_id = excluded.job_id, model_id = excluded.model_id, severity = excluded.severity, p_minor = excluded.p_minor,
        p_moderate = excluded.p_moderate, p_severe = excluded.p_severe, scored_at = excluded.scored_at,
        finished_at = excluded.finished_at, archived = false
    where latest_scores.archived or (latest_scores.finished_at, latest_scores.job_id) < (excluded.finished_at, excluded.job_id)
$$;

create function summarise_ended_run() returns trigger language plpgsql as $$
begin
    perform summarise_costs(new);
    if new.state = 'succeeded' and new.kind = 'score' then
        perform summarise_scores(new);
    end if;
    return null;
end
$$;
create trigger jobs_summarise after update of state on jobs for each row
    when (new.finished_at is not null and old.finished_at is null)
    execute function summarise_ended_run();

-- Old runs: their predictions leave for the object store, a month's partition at once, and everything else about them stays. In the
-- schema `archive` a month waits until it is stored.
alter table jobs add column archived_at timestamptz;
create schema archive;
create table archives (
    month       date        primary key check (month = date_trunc('month', month)),
    -- detached: out of the views, in the schema `archive`. stored: in the object store too, and verified. archived: only there.
    state       text        not null default 'detached' check (state in ('detached', 'stored', 'archived')),
    bucket      text        not null,
    prefix      text        not null,
    runs        bigint      not null,
    predictions bigint      not null,
    manifest    jsonb,
    detached_at timestamptz not null default now(),
    archived_at timestamptz,
    check ((state = 'detached') = (manifest is null)),
    check ((state = 'archived') = (archived_at is not null))
);

-- What ended before there were summaries. However long it takes.
set local statement_timeout = 0;
do $$
declare
    run jobs;
begin
    for run in select * from jobs where finished_at is not null order by finished_at, id loop
        perform summarise_costs(run);
        if run.state = 'succeeded' and run.kind = 'score' then
            perform summarise_scores(run);
        end if;
    end loop;
end
$$;

create or replace view analytics.predictions as
select p.job_id, p.image_id, i.claim_id, i.bucket, i.key, p.severity,
       p.p_minor, p.p_moderate, p.p_severe,
       greatest(p.p_minor, p.p_moderate, p.p_severe) as confidence,
       m.name as model, m.version as model_version, p.scored_at, r.finished_at,
       p.run_date, i.etag
from finished_runs r
join predictions p on p.job_id = r.job_id and p.run_date = r.run_date
join images i on i.id = p.image_id
join models m on m.id = r.model_id
where r.kind = 'score';
comment on column analytics.predictions.run_date is 'The day (UTC) on which the run was planned. Scores are partitioned by its month: a condition on it makes a query read only those months.';
comment on column analytics.predictions.etag is 'The version of the photograph: the object''s ETag when it was scored.';

create or replace view analytics.image_severity as
select l.image_id, i.claim_id, i.bucket, i.key, l.severity, l.p_minor, l.p_moderate, l.p_severe,
       greatest(l.p_minor, l.p_moderate, l.p_severe) as confidence,
       m.name as model, m.version as model_version, l.job_id, l.scored_at,
       -- Most photographs have one version, and need no look at others.
       i.superseded_at is null or not exists (
           select from images n
           where n.bucket = i.bucket and n.key = i.key and (n.superseded_at is null or n.superseded_at > i.superseded_at)
       ) as is_newest
from latest_scores l
join images i on i.id = l.image_id
join models m on m.id = l.model_id
where not l.archived;
comment on column analytics.image_severity.is_newest is 'Whether no newer version of the photograph is registered. It stays so when the object is removed from the store.';

create or replace view analytics.image_failures as
select f.job_id, f.image_id, i.claim_id, i.bucket, i.key, f.reason, f.detail, f.failed_at
from finished_runs r
join jobs j on j.id = r.job_id and j.archived_at is null
join image_failures f on f.job_id = r.job_id
join images i on i.id = f.image_id;

-- By the latest scores rather than by all of them; what an archived run has scored does not wait again.
create or replace view analytics.backlog as
select i.bucket,
       count(*) filter (where failed.image_id is null) as waiting,
       min(i.registered_at) filter (where failed.image_id is null) as oldest_registered_at,
       now() - min(i.registered_at) filter (where failed.image_id is null) as oldest_age,
       count(failed.image_id) as unscorable
from images i
left join (
    select distinct f.image_id from finished_runs r join image_failures f on f.job_id = r.job_id where r.kind = 'score'
) failed on failed.image_id = i.id
where i.superseded_at is null and i.label is null and not exists (select from latest_scores l where l.image_id = i.id)
group by i.bucket;

create or replace view analytics.job_runs as
select j.id as job_id, j.kind, j.state, m.name as model, m.version as model_version,
       d.name as dataset, d.version as dataset_version,
       j.images_total, j.images_scored, j.images_failed, j.error,
       j.created_at, j.planned_at, j.finished_at,
       extract(epoch from j.finished_at - j.created_at)::double precision as seconds,
       j.run_date, j.archived_at
from jobs j
left join models m on m.id = j.model_id
left join datasets d on d.id = j.dataset_id
where j.state in ('succeeded', 'failed', 'cancelled');
comment on column analytics.job_runs.run_date is 'The day (UTC) on which it was planned; null if it never was.';
comment on column analytics.job_runs.archived_at is 'When its rows were archived: then it is in the views of runs only. Null while they are there.';

create view analytics.run_severity as
select s.job_id, r.run_date, m.name as model, m.version as model_version, s.severity, s.images,
       s.images::double precision / sum(s.images) over (partition by s.job_id)::double precision as share,
       s.confidence_sum / s.images as mean_confidence, s.unsure, r.finished_at
from finished_runs r
join run_severities s on s.job_id = r.job_id
join models m on m.id = r.model_id;
comment on view analytics.run_severity is 'The severity mix of each finished scoring run: at most three rows a run. A summary that stays when the run''s rows are archived.';
comment on column analytics.run_severity.job_id is 'The run; see job_runs.';
comment on column analytics.run_severity.run_date is 'The day (UTC) on which the run was planned.';
comment on column analytics.run_severity.model is 'The model''s name.';
comment on column analytics.run_severity.model_version is 'The model''s version.';
comment on column analytics.run_severity.severity is 'The class.';
comment on column analytics.run_severity.images is 'How many photographs the run graded so.';
comment on column analytics.run_severity.share is 'Their share of the run''s photographs with a score, 0 to 1.';
comment on column analytics.run_severity.mean_confidence is 'Mean over them of the highest probability, 0 to 1.';
comment on column analytics.run_severity.unsure is 'How many of them have a confidence below 0.5.';
comment on column analytics.run_severity.finished_at is 'When the run finished.';

create view analytics.score_histogram as
select h.job_id, r.run_date, m.name as model, m.version as model_version, h.severity,
       h.bin, h.bin / 20.0::double precision as low, (h.bin + 1) / 20.0::double precision as high, h.images, r.finished_at
from finished_runs r
join score_histograms h on h.job_id = r.job_id
join models m on m.id = r.model_id;
comment on view analytics.score_histogram is 'How each finished scoring run''s probabilities are distributed: for each class 20 bins of equal width, those without photographs left out. Runs can be added up. A summary that stays when the run''s rows are archived.';
comment on column analytics.score_histogram.job_id is 'The run; see job_runs.';
comment on column analytics.score_histogram.run_date is 'The day (UTC) on which the run was planned.';
comment on column analytics.score_histogram.model is 'The model''s name.';
comment on column analytics.score_histogram.model_version is 'The model''s version.';
comment on column analytics.score_histogram.severity is 'The class whose probability is counted.';
comment on column analytics.score_histogram.bin is 'The bin, 0 to 19.';
comment on column analytics.score_histogram.low is 'The bin''s lower end, which belongs to it.';
comment on column analytics.score_histogram.high is 'The bin''s upper end, which belongs to the next bin; to the last bin where it is 1.';
comment on column analytics.score_histogram.images is 'How many photographs have a probability in the bin.';
comment on column analytics.score_histogram.finished_at is 'When the run finished.';

create view analytics.run_costs as
select j.id as job_id, j.kind, j.state, m.name as model, m.version as model_version, j.run_date,
       coalesce(j.images_scored, 0) + coalesce(j.images_failed, 0) as images,
       c.attempts, c.attempts_lost, c.workers, c.device_seconds, c.device_seconds_lost,
       (coalesce(j.images_scored, 0) + coalesce(j.images_failed, 0)) / nullif(c.device_seconds, 0) as images_per_device_second,
       extract(epoch from c.started_at - j.created_at)::double precision as waited_seconds,
       extract(epoch from j.finished_at - c.started_at)::double precision as worked_seconds,
       j.created_at, j.finished_at
from jobs j
join run_costs c on c.job_id = j.id
left join models m on m.id = j.model_id
where j.state in ('succeeded', 'failed', 'cancelled');
comment on view analytics.run_costs is 'What each run that has ended took, whatever its end. A worker drives one device; while it runs several tasks at once, each second is shared evenly between them, so that the costs of all runs add up to the time for which devices had work.';
comment on column analytics.run_costs.job_id is 'The run; see job_runs.';
comment on column analytics.run_costs.kind is 'train, score, evaluate or sweep.';
comment on column analytics.run_costs.state is 'succeeded, failed or cancelled.';
comment on column analytics.run_costs.model is 'The model that it scored with, measured or made: its name.';
comment on column analytics.run_costs.model_version is 'That model''s version.';
comment on column analytics.run_costs.run_date is 'The day (UTC) on which the run was planned; null if it never was.';
comment on column analytics.run_costs.images is 'How many photographs were dealt with: scored, or found to be impossible to score.';
comment on column analytics.run_costs.attempts is 'How many times a worker took one of its tasks.';
comment on column analytics.run_costs.attempts_lost is 'How many of them came to nothing: failed, expired, released or cancelled.';
comment on column analytics.run_costs.workers is 'How many workers took part.';
comment on column analytics.run_costs.device_seconds is 'Seconds for which it held devices, lost attempts included.';
comment on column analytics.run_costs.device_seconds_lost is 'Those of the lost attempts.';
comment on column analytics.run_costs.images_per_device_second is 'Photographs for each of those seconds.';
comment on column analytics.run_costs.waited_seconds is 'From submission until a worker took its first task, in seconds.';
comment on column analytics.run_costs.worked_seconds is 'From then to the end, in seconds.';
comment on column analytics.run_costs.created_at is 'When it was submitted.';
comment on column analytics.run_costs.finished_at is 'When it ended.';

create view analytics.model_lineage as
select m.name as model, m.version as model_version, m.architecture, m.job_id, d.name as dataset, d.version as dataset_version,
       m.dataset_digest, m.spec_sha256, m.seed, m.hyperparameters, m.best_epoch, m.code_version, m.libtorch_version, m.device,
       m.source, m.preprocessing, m.artifact_bucket, m.artifact_key, m.artifact_sha256, m.artifact_bytes, m.created_at
from models m
left join datasets d on d.id = m.dataset_id
where m.job_id is null or exists (select from finished_runs r where r.job_id = m.job_id);
comment on view analytics.model_lineage is 'What each version of a model was made from, and with: enough to make it again. Versions made by a finished run, and imported ones.';
comment on column analytics.model_lineage.model is 'The model''s name.';
comment on column analytics.model_lineage.model_version is 'The model''s version.';
comment on column analytics.model_lineage.architecture is 'The network: cnn4 or resnet18.';
comment on column analytics.model_lineage.job_id is 'The run that trained it; null for an imported model.';
comment on column analytics.model_lineage.dataset is 'The dataset it was trained on: its name; null for an imported model.';
comment on column analytics.model_lineage.dataset_version is 'That dataset''s version.';
comment on column analytics.model_lineage.dataset_digest is 'SHA-256 of that dataset''s contents: each photograph''s split, label, ETag and size.';
comment on column analytics.model_lineage.spec_sha256 is 'SHA-256 of the training specification as JSON.';
comment on column analytics.model_lineage.seed is 'The seed of everything random in its training.';
comment on column analytics.model_lineage.hyperparameters is 'The training specification, complete.';
comment on column analytics.model_lineage.best_epoch is 'The epoch whose weights it has.';
comment on column analytics.model_lineage.code_version is 'The release of Perito that made it.';
comment on column analytics.model_lineage.libtorch_version is 'The version of libtorch that made it.';
comment on column analytics.model_lineage.device is 'The device that it was trained on.';
comment on column analytics.model_lineage.source is 'What made it: libtorch and the device; for an import, what was imported.';
comment on column analytics.model_lineage.preprocessing is 'How a photograph becomes its input.';
comment on column analytics.model_lineage.artifact_bucket is 'Where its weights are: the bucket.';
comment on column analytics.model_lineage.artifact_key is 'Where its weights are: the key.';
comment on column analytics.model_lineage.artifact_sha256 is 'SHA-256 of its weights.';
comment on column analytics.model_lineage.artifact_bytes is 'The size of its weights in bytes.';
comment on column analytics.model_lineage.created_at is 'When it was registered.';

grant select on analytics.run_severity, analytics.score_histogram, analytics.run_costs, analytics.model_lineage to perito_analyst;
