-- Intake: how photographs reach the catalogue by SQL and by events of the object store, what waits to be scored, and the rule by
-- which a claim is graded.

create schema intake;
comment on schema intake is 'Where other systems hand photographs in. See docs/how-to/feed-the-backlog.md.';

-- Roles belong to the whole server: another database's migration may have made this one, or be making it now.
do $$
begin
    create role perito_intake nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$;

-- Takes whatever is inserted, so that one bad row never costs a claim system its transaction; the coordinator tells good from bad. Only
-- what no row can be for is refused at once.
create table intake.staging (
    id          bigint generated always as identity primary key,
    bucket      text,
    key         text,
    etag        text,
    size_bytes  bigint,
    claim_id    text,
    label       text,
    inserted_at timestamptz not null default now(),
    inserted_by text        not null default session_user,
    constraint staging_row_length check (octet_length(concat(bucket, key, etag, claim_id, label)) <= 16384)
);
comment on table intake.staging is 'Insert photographs here; the coordinator moves them to the catalogue within seconds, in the order of id, and what it cannot take to intake.rejected. Idempotent by bucket, key and etag; another etag under the same key is a new version of the photograph.';
comment on column intake.staging.bucket is 'The bucket that holds the photograph, 1 to 63 bytes. Required.';
comment on column intake.staging.key is 'Its key, 1 to 1,024 bytes without control characters, as it is: not URL-encoded. Required.';
comment on column intake.staging.etag is 'The object''s ETag, with or without quotes, 1 to 128 bytes. Required.';
comment on column intake.staging.size_bytes is 'The object''s size in bytes, 0 or more. Required.';
comment on column intake.staging.claim_id is 'The claim it belongs to, 1 to 128 bytes without control characters; found in the key by the coordinator''s claim pattern when null.';
comment on column intake.staging.label is 'What a person says it shows: minor, moderate or severe. Labelled photographs are not part of the backlog.';
comment on column intake.staging.inserted_at is 'When it was inserted.';
comment on column intake.staging.inserted_by is 'The login that inserted it.';

create table intake.rejected (
    staging_id  bigint      primary key,
    bucket      text,
    key         text,
    etag        text,
    size_bytes  bigint,
    claim_id    text,
    label       text,
    inserted_at timestamptz not null,
    inserted_by text        not null,
    rejected_at timestamptz not null default now(),
    reason      text        not null
);
create index rejected_recent on intake.rejected (rejected_at desc);
comment on table intake.rejected is 'Rows of intake.staging that could not be taken, as they were, with the reason. Kept until somebody deletes them.';

grant usage on schema intake to perito_intake;
grant insert (bucket, key, etag, size_bytes, claim_id, label) on intake.staging to perito_intake;

-- The newest event of each object that came within the last days: what is older than this is late news.
create table intake.last_events (
    bucket     text        not null,
    key        text        not null,
    -- Hexadecimal, in lower case; of two events of one object the later one has the greater sequencer. Some stores give none.
    sequencer  text        collate "C",
    event_time timestamptz not null,
    -- The version that was created last, in a bucket that keeps versions.
    version_id text,
    seen_at    timestamptz not null default now(),
    primary key (bucket, key)
);
create index last_events_seen on intake.last_events (seen_at);

create view analytics.backlog as
select i.bucket,
       count(*) filter (where failed.image_id is null) as waiting,
       min(i.registered_at) filter (where failed.image_id is null) as oldest_registered_at,
       now() - min(i.registered_at) filter (where failed.image_id is null) as oldest_age,
       count(failed.image_id) as unscorable
from images i
left join (
    select distinct f.image_id from finished_runs r join image_failures f on f.job_id = r.job_id where r.kind = 'score'
) failed on failed.image_id = i.id
where i.superseded_at is null and i.label is null
  and not exists (select from finished_runs r join predictions p on p.job_id = r.job_id and p.run_date = r.run_date
                  where r.kind = 'score' and p.image_id = i.id)
group by i.bucket;
comment on view analytics.backlog is 'What waits, by bucket: photographs that are registered, current and without a label, and that no finished scoring run has scored. A bucket with none has no row.';
comment on column analytics.backlog.bucket is 'The bucket.';
comment on column analytics.backlog.waiting is 'How many photographs wait for their first score.';
comment on column analytics.backlog.oldest_registered_at is 'When the one that waits longest was registered.';
comment on column analytics.backlog.oldest_age is 'How long it has waited since.';
comment on column analytics.backlog.unscorable is 'How many more do not wait, because a finished run has tried them and could not score them: see image_failures.';

create or replace view analytics.image_severity as
select latest.*,
       -- Most photographs have one version, and need no look at others.
       i.superseded_at is null or not exists (
           select from images n
           where n.bucket = i.bucket and n.key = i.key and (n.superseded_at is null or n.superseded_at > i.superseded_at)
       ) as is_newest
from (
    -- A photograph has one claim; naming it here lets a condition on it reach the photographs.
    select distinct on (image_id, claim_id)
           image_id, claim_id, bucket, key, severity, p_minor, p_moderate, p_severe, confidence,
           model, model_version, job_id, scored_at
    from analytics.predictions
    order by image_id, claim_id, finished_at desc, job_id desc
) latest
join images i on i.id = latest.image_id;
comment on column analytics.image_severity.is_newest is 'Whether no newer version of the photograph is registered. It stays so when the object is removed from the store.';

create function analytics.claim_severity_at(threshold double precision)
returns table (
    claim_id text, severity severity, photographs bigint, severe_photographs bigint,
    mean_p_minor real, mean_p_moderate real, mean_p_severe real, max_p_severe real, scored_at timestamptz, decided_by text
)
language sql stable parallel safe
as $$
    select i.claim_id,
           coalesce(
               max(i.severity) filter (where i.confidence >= threshold::real),
               -- The lighter one on a tie, as for a photograph.
               case greatest(avg(i.p_minor), avg(i.p_moderate), avg(i.p_severe))
                   when avg(i.p_minor) then 'minor'::severity
                   when avg(i.p_moderate) then 'moderate'::severity
                   else 'severe'::severity
               end
           ),
           count(*),
           count(*) filter (where i.severity = 'severe'),
           avg(i.p_minor)::real, avg(i.p_moderate)::real, avg(i.p_severe)::real,
           max(i.p_severe),
           max(i.scored_at),
           case when bool_or(i.confidence >= threshold::real) then 'photograph' else 'mean' end
    from analytics.image_severity i
    where i.claim_id is not null and i.is_newest
    group by i.claim_id
$$;
comment on function analytics.claim_severity_at is 'analytics.claim_severity with another threshold, 0 to 1: each claim by the latest scores of its photographs'' newest versions. It is graded as the worst photograph whose confidence is at or above the threshold; when there is none, as the class with the highest mean probability.';

-- Lateral, so that the function is inlined, and a condition on the claim reaches its photographs.
create or replace view analytics.claim_severity as
select c.claim_id, c.severity, c.photographs, c.severe_photographs, c.mean_p_minor, c.mean_p_moderate, c.mean_p_severe,
       c.max_p_severe, c.scored_at, c.decided_by, s.claim_confidence as threshold
from settings s
cross join lateral analytics.claim_severity_at(s.claim_confidence) c;
comment on view analytics.claim_severity is 'Each claim by the latest scores of its photographs'' newest versions. It is graded as the worst photograph whose confidence is at or above the threshold; when there is none, as the class with the highest mean probability. See claim_severity_at for other thresholds.';
comment on column analytics.claim_severity.decided_by is 'What the grade is by: photograph (the worst one that is sure enough) or mean (none is).';
comment on column analytics.claim_severity.threshold is 'The confidence from which a single photograph decides, 0 to 1: the setting claim_confidence.';

grant select on analytics.backlog to perito_analyst;
