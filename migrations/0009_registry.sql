-- The registry's memory: who moved which alias where and why, comparisons of two models, deleted versions. And what people say: the
-- decisions of adjusters, beside the predictions.

-- How a dataset came to be, where its items do not tell: the labels or the download that it was made of.
alter table datasets add column origin text check (length(origin) between 1 and 1024);

-- Every move of an alias. Versions rather than ids: history outlives a version that is deleted.
create table alias_moves (
    id              bigint generated always as identity primary key,
    name            text        not null,
    alias           text        not null,
    action          text        not null check (action in ('promote', 'rollback')),
    from_version    integer,
    to_version      integer     not null,
    -- As the caller tells it; null when it does not.
    moved_by        text        check (length(moved_by) between 1 and 64),
    reason          text        check (length(reason) between 1 and 500),
    moved_at        timestamptz not null default clock_timestamp(),
    -- Moved without the gate's consent.
    forced          boolean     not null default false,
    -- What the gate compared; null when there was nothing to compare, or it was not asked.
    dataset_id      bigint      references datasets,
    split           text        check (split in ('training', 'validation')),
    margin          double precision,
    macro_f1        double precision,
    former_macro_f1 double precision,
    check (not forced or reason is not null)
);
create index alias_moves_in_order on alias_moves (name, alias, id);

insert into alias_moves (name, alias, action, to_version, reason, moved_at)
select a.name, a.alias, 'promote', m.version, 'before history was kept', a.updated_at
from model_aliases a join models m on m.id = a.model_id;

-- A version number is never given twice, and a deletion can be repeated until the weights are gone too.
create table deleted_models (
    name            text        not null,
    version         integer     not null,
    artifact_bucket text        not null,
    artifact_key    text        not null,
    artifact_sha256 text        not null,
    artifact_bytes  bigint      not null,
    -- The whole row as it was.
    facts           jsonb       not null,
    deleted_by      text        check (length(deleted_by) between 1 and 64),
    reason          text        check (length(reason) between 1 and 500),
    deleted_at      timestamptz not null default now(),
    primary key (name, version)
);

create index evaluations_of_model on evaluations (model_id, dataset_id, split);

-- Two models on the same images: McNemar's test.
create table model_comparisons (
    id                       bigint generated always as identity primary key,
    champion_evaluation_id   bigint           not null references evaluations,
    challenger_evaluation_id bigint           not null references evaluations,
    -- Images that both graded, by who was right.
    both_right               bigint           not null,
    only_champion_right      bigint           not null,
    only_challenger_right    bigint           not null,
    both_wrong               bigint           not null,
    -- Images that only one of them graded.
    left_out                 bigint           not null,
    test                     text             not null check (test in ('exact-binomial', 'chi-square')),
    statistic                double precision not null,
    p_value                  double precision not null check (p_value between 0 and 1),
    compared_by              text             check (length(compared_by) between 1 and 64),
    compared_at              timestamptz      not null default now(),
    unique (champion_evaluation_id, challenger_evaluation_id),
    check (champion_evaluation_id <> challenger_evaluation_id)
);
create index model_comparisons_of_challenger on model_comparisons (challenger_evaluation_id);

-- What adjusters decided, about a photograph or about a whole claim. Rows are only ever added: the decision that counts is the one with the
-- latest decided_at.
create table human_labels (
    id          bigint generated always as identity primary key,
    image_id    bigint      references images,
    claim_id    text        check (length(claim_id) between 1 and 128),
    severity    severity    not null,
    source      text        not null check (length(source) between 1 and 128),
    decided_at  timestamptz not null,
    recorded_at timestamptz not null default now(),
    check (num_nonnulls(image_id, claim_id) = 1)
);
create unique index human_labels_of_image on human_labels (image_id, decided_at, source) where image_id is not null;
create unique index human_labels_of_claim on human_labels (claim_id, decided_at, source) where claim_id is not null;

-- Records a decision, or says why not. The one definition of what a decision has to be, for the API and for SQL alike; the same one
-- again is no news.
create function record_label(
    of_image bigint, of_bucket text, of_key text, of_etag text, of_claim text,
    decision severity, said_by text, said_at timestamptz,
    out recorded boolean, out problem text
) language plpgsql as $$
declare
    target    bigint;
    its_claim text;
    known     severity;
begin
    recorded := false;
    if decision is null then problem := 'severity is missing'; return; end if;
    if coalesce(length(said_by), 0) not between 1 and 128 then problem := 'source: expected 1 to 128 characters'; return; end if;
    if said_at is null then problem := 'decided_at is missing'; return; end if;
    if said_at > now() + interval '1 hour' then problem := format('decided_at %s is in the future', said_at); return; end if;
    if said_at < '1970-01-01' then problem := format('decided_at %s is before 1970', said_at); return; end if;
    if (of_bucket is null) <> (of_key is null) then problem := 'bucket and key belong together'; return; end if;
    if of_image is not null and of_key is not null then problem := 'name the photograph by image_id or by bucket and key, not by both'; return; end if;

    if of_image is not null then
        select id, claim_id into target, its_claim from images where id = of_image;
        if target is null then problem := format('there is no image %s', of_image); return; end if;
    elsif of_key is not null then
        -- The version that is present, unless an ETag says which was meant.
        select id, claim_id into target, its_claim from images
        where bucket = of_bucket and key = of_key and (etag = of_etag or of_etag is null)
        order by superseded_at is not null, id desc limit 1;
        if target is null then
            problem := format('%s/%s is not registered%s', of_bucket, of_key, coalesce(' with the ETag ' || of_etag, '')); return;
        end if;
    elsif of_claim is null then
        problem := 'names neither a photograph (image_id, or bucket and key) nor a claim (claim_id)'; return;
    end if;

    if target is not null and of_claim is not null and of_claim is distinct from its_claim then
        problem := format('the photograph belongs to claim %s, not to %s', coalesce(its_claim, '(none)'), of_claim); return;
    end if;
    if target is null then
        perform from images where claim_id = of_claim limit 1;
        if not found then problem := format('no photograph of claim %s is registered', of_claim); return; end if;
    end if;

    insert into human_labels (image_id, claim_id, severity, source, decided_at)
    values (target, case when target is null then of_claim end, decision, said_by, said_at)
    on conflict do nothing;
    recorded := found;
    if not recorded then
        select severity into known from human_labels
        where source = said_by and decided_at = said_at
          and (image_id = target or target is null and claim_id = of_claim);
        if known <> decision then
            problem := format('%s decided %s about it at the very same time', said_by, known);
        end if;
    end if;
end
$$;

-- For claim systems: insert (or COPY) decisions here. A row that cannot be right fails the statement and says why.
create view label_inbox as
select null::bigint as image_id, null::text as bucket, null::text as key, null::text as etag, null::text as claim_id,
       null::severity as severity, null::text as source, null::timestamptz as decided_at
where false;
comment on view label_inbox is 'Insert adjusters'' decisions here: a photograph (image_id, or bucket and key, with etag for an older version) or a claim_id, with severity, source and decided_at.';

create function take_label() returns trigger language plpgsql as $$
declare
    outcome record;
begin
    outcome := record_label(new.image_id, new.bucket, new.key, new.etag, new.claim_id, new.severity, new.source, new.decided_at);
    if outcome.problem is not null then
        raise exception using errcode = 'invalid_parameter_value', message = outcome.problem;
    end if;
    return new;
end
$$;
create trigger take_label instead of insert on label_inbox for each row execute function take_label();

-- The decision that counts for each photograph and each claim.
create view current_labels as
select distinct on (image_id, claim_id) id, image_id, claim_id, severity, source, decided_at, recorded_at
from human_labels
order by image_id, claim_id, decided_at desc, id desc;

-- Which version an alias pointed to, from when until when.
create view alias_tenures as
select name, alias, to_version as version, moved_at as held_from,
       coalesce(lead(moved_at) over (partition by name, alias order by id), 'infinity') as held_until
from alias_moves;

-- Scores of finished runs by the version that was in force when the run was planned: the one that the alias production pointed to.
create view scores_in_force as
select p.image_id, p.severity, p.p_minor, p.p_moderate, p.p_severe, p.job_id, j.model_id, j.finished_at
from jobs j
join models m on m.id = j.model_id
join alias_tenures t on t.name = m.name and t.alias = 'production' and t.version = m.version
                    and j.planned_at >= t.held_from and j.planned_at < t.held_until
join predictions p on p.job_id = j.id and p.run_date = j.run_date
where j.kind = 'score' and j.state = 'succeeded';

create view analytics.alias_history as
select h.name as model, h.alias, h.action, h.from_version, h.to_version, h.moved_by, h.reason, h.moved_at,
       lead(h.moved_at) over (partition by h.name, h.alias order by h.id) as held_until,
       h.forced, d.name as dataset, d.version as dataset_version, h.split, h.margin, h.macro_f1, h.former_macro_f1
from alias_moves h
left join datasets d on d.id = h.dataset_id;
comment on view analytics.alias_history is 'Every move of every alias: which version was in force from when, who moved it and why.';
comment on column analytics.alias_history.model is 'The model''s name.';
comment on column analytics.alias_history.alias is 'The alias, such as production.';
comment on column analytics.alias_history.action is 'promote, or rollback to the version before the last promotion.';
comment on column analytics.alias_history.from_version is 'The version that held the alias before; null for the first one.';
comment on column analytics.alias_history.to_version is 'The version that held it from then on.';
comment on column analytics.alias_history.moved_by is 'Who moved it, as the caller told; null when it did not.';
comment on column analytics.alias_history.reason is 'Why, if somebody said.';
comment on column analytics.alias_history.moved_at is 'When it moved.';
comment on column analytics.alias_history.held_until is 'When it moved on; null for the present holder.';
comment on column analytics.alias_history.forced is 'Whether it was moved without the gate''s consent.';
comment on column analytics.alias_history.dataset is 'The dataset on which the gate compared the two versions; null when it compared nothing.';
comment on column analytics.alias_history.dataset_version is 'That dataset''s version.';
comment on column analytics.alias_history.split is 'The part of the dataset: training or validation.';
comment on column analytics.alias_history.margin is 'How far below the former holder''s the macro F1 was allowed to be.';
comment on column analytics.alias_history.macro_f1 is 'Macro F1 of the version that was promoted.';
comment on column analytics.alias_history.former_macro_f1 is 'Macro F1 of the version that held the alias before.';

create view analytics.model_comparisons as
select champion.name as champion, champion.version as champion_version,
       challenger.name as challenger, challenger.version as challenger_version,
       d.name as dataset, d.version as dataset_version, a.split,
       c.both_right + c.only_champion_right + c.only_challenger_right + c.both_wrong as images, c.left_out,
       c.both_right, c.only_champion_right, c.only_challenger_right, c.both_wrong,
       a.accuracy as champion_accuracy, b.accuracy as challenger_accuracy,
       a.macro_f1 as champion_macro_f1, b.macro_f1 as challenger_macro_f1,
       c.test, c.statistic, c.p_value, a.job_id as champion_job_id, b.job_id as challenger_job_id, c.compared_by, c.compared_at
from model_comparisons c
join evaluations a on a.id = c.champion_evaluation_id
join evaluations b on b.id = c.challenger_evaluation_id
join models champion on champion.id = a.model_id
join models challenger on challenger.id = b.model_id
join datasets d on d.id = a.dataset_id;
comment on view analytics.model_comparisons is 'Pairs of models on the same split of the same dataset, with McNemar''s test of whether they differ by more than chance.';
comment on column analytics.model_comparisons.champion is 'The first model: its name.';
comment on column analytics.model_comparisons.champion_version is 'The first model''s version.';
comment on column analytics.model_comparisons.challenger is 'The second model: its name.';
comment on column analytics.model_comparisons.challenger_version is 'The second model''s version.';
comment on column analytics.model_comparisons.dataset is 'The dataset''s name.';
comment on column analytics.model_comparisons.dataset_version is 'The dataset''s version.';
comment on column analytics.model_comparisons.split is 'The part of the dataset: training or validation.';
comment on column analytics.model_comparisons.images is 'How many photographs both graded.';
comment on column analytics.model_comparisons.left_out is 'How many photographs only one of them graded; they take no part.';
comment on column analytics.model_comparisons.both_right is 'Photographs on which both were right.';
comment on column analytics.model_comparisons.only_champion_right is 'Photographs on which only the champion was right.';
comment on column analytics.model_comparisons.only_challenger_right is 'Photographs on which only the challenger was right.';
comment on column analytics.model_comparisons.both_wrong is 'Photographs on which both were wrong.';
comment on column analytics.model_comparisons.champion_accuracy is 'The champion''s accuracy on the split, 0 to 1.';
comment on column analytics.model_comparisons.challenger_accuracy is 'The challenger''s accuracy on the split, 0 to 1.';
comment on column analytics.model_comparisons.champion_macro_f1 is 'The champion''s macro F1 on the split.';
comment on column analytics.model_comparisons.challenger_macro_f1 is 'The challenger''s macro F1 on the split.';
comment on column analytics.model_comparisons.test is 'exact-binomial below 25 discordant photographs, chi-square (with continuity correction) from there on.';
comment on column analytics.model_comparisons.statistic is 'The smaller discordant count for the exact test, chi-square with one degree of freedom for the other.';
comment on column analytics.model_comparisons.p_value is 'Probability of so large a difference if the two were equally good, two-sided, 0 to 1.';
comment on column analytics.model_comparisons.champion_job_id is 'The run that measured the champion; see model_metrics.';
comment on column analytics.model_comparisons.challenger_job_id is 'The run that measured the challenger; see model_metrics.';
comment on column analytics.model_comparisons.compared_by is 'Who asked first, as the caller told.';
comment on column analytics.model_comparisons.compared_at is 'When it was first asked for.';

create view analytics.human_labels as
select l.id as label_id, case when l.image_id is null then 'claim' else 'photograph' end as level,
       l.image_id, coalesce(l.claim_id, i.claim_id) as claim_id, i.bucket, i.key, l.severity, l.source, l.decided_at, l.recorded_at,
       lead(l.decided_at) over (partition by l.image_id, l.claim_id order by l.decided_at, l.id) as superseded_at
from human_labels l
left join images i on i.id = l.image_id;
comment on view analytics.human_labels is 'Every decision of an adjuster about a photograph or a claim. The one that counts has no superseded_at.';
comment on column analytics.human_labels.label_id is 'The decision''s number.';
comment on column analytics.human_labels.level is 'photograph or claim: what the decision is about.';
comment on column analytics.human_labels.image_id is 'The photograph''s number in the catalogue; null for a decision about a claim.';
comment on column analytics.human_labels.claim_id is 'The claim, or the claim of the photograph.';
comment on column analytics.human_labels.bucket is 'Where the photograph is: the bucket.';
comment on column analytics.human_labels.key is 'Where the photograph is: the key in the bucket.';
comment on column analytics.human_labels.severity is 'What was decided.';
comment on column analytics.human_labels.source is 'Who or what system said so.';
comment on column analytics.human_labels.decided_at is 'When it was decided.';
comment on column analytics.human_labels.recorded_at is 'When Perito was told.';
comment on column analytics.human_labels.superseded_at is 'When a later decision took its place; null for the one that counts.';

create view analytics.label_agreement as
with targets as (
    select id, image_id, decided_at from current_labels where image_id is not null
    union all
    select l.id, i.id, l.decided_at
    from current_labels l
    join images i on i.claim_id = l.claim_id and (i.superseded_at is null or i.superseded_at > l.decided_at)
    where l.image_id is null
), nearest as (
    -- Of the scores in force, the last one that was there when the adjuster decided; where there was none, the first one after.
    select t.id as label_id, s.severity, s.p_minor, s.p_moderate, s.p_severe, s.job_id, s.model_id, s.finished_at,
           row_number() over (partition by t.id, t.image_id
                              order by s.finished_at > t.decided_at, abs(extract(epoch from s.finished_at - t.decided_at)), s.job_id) as place
    from targets t
    join scores_in_force s on s.image_id = t.image_id
), predicted as (
    select label_id,
           -- Claims by the rule of analytics.claim_severity. Of one photograph, both branches are its own class.
           coalesce(max(severity) filter (where greatest(p_minor, p_moderate, p_severe) >= (select claim_confidence::real from settings)),
                    case greatest(avg(p_minor), avg(p_moderate), avg(p_severe))
                        when avg(p_minor) then 'minor'::severity
                        when avg(p_moderate) then 'moderate'::severity
                        else 'severe'::severity
                    end) as severity,
           count(*) as photographs,
           (array_agg(model_id order by finished_at desc, job_id))[1] as model_id,
           (array_agg(job_id order by finished_at desc, job_id))[1] as job_id,
           max(finished_at) as finished_at
    from nearest where place = 1
    group by label_id
)
select l.id as label_id, case when l.image_id is null then 'claim' else 'photograph' end as level,
       l.image_id, coalesce(l.claim_id, i.claim_id) as claim_id, i.bucket, i.key,
       l.severity as label, p.severity as predicted, l.severity = p.severity as agrees,
       p.photographs, m.name as model, m.version as model_version, p.job_id,
       p.finished_at <= l.decided_at as scored_before, l.source, l.decided_at
from current_labels l
join predicted p on p.label_id = l.id
join models m on m.id = p.model_id
left join images i on i.id = l.image_id;
comment on view analytics.label_agreement is 'Each decision that counts beside the score of the model in force: the version that the alias production pointed to when the run was planned. Decisions about what it never scored do not show.';
comment on column analytics.label_agreement.label_id is 'The decision; see human_labels.';
comment on column analytics.label_agreement.level is 'photograph or claim: what the decision is about.';
comment on column analytics.label_agreement.image_id is 'The photograph''s number in the catalogue; null for a decision about a claim.';
comment on column analytics.label_agreement.claim_id is 'The claim, or the claim of the photograph.';
comment on column analytics.label_agreement.bucket is 'Where the photograph is: the bucket.';
comment on column analytics.label_agreement.key is 'Where the photograph is: the key in the bucket.';
comment on column analytics.label_agreement.label is 'What the adjuster decided.';
comment on column analytics.label_agreement.predicted is 'What the model said: of the photograph, or of the claim by the rule of claim_severity.';
comment on column analytics.label_agreement.agrees is 'Whether the two are the same.';
comment on column analytics.label_agreement.photographs is 'How many photographs the prediction rests on: 1, or those of the claim that have a score.';
comment on column analytics.label_agreement.model is 'The model in force: its name.';
comment on column analytics.label_agreement.model_version is 'The model in force: its version.';
comment on column analytics.label_agreement.job_id is 'The run that gave the score, the newest one for a claim; see job_runs.';
comment on column analytics.label_agreement.scored_before is 'Whether the run had finished when the adjuster decided, so that the score may have been seen.';
comment on column analytics.label_agreement.source is 'Who or what system decided.';
comment on column analytics.label_agreement.decided_at is 'When it was decided.';

create view analytics.live_accuracy as
select week, level, model, model_version, labels, correct, correct::double precision / labels as accuracy,
       -- Wilson's interval for a proportion, with z = 1.96.
       (correct + 1.9208 - 1.96 * sqrt(correct::double precision * (labels - correct) / labels + 0.9604)) / (labels + 3.8416) as accuracy_low,
       (correct + 1.9208 + 1.96 * sqrt(correct::double precision * (labels - correct) / labels + 0.9604)) / (labels + 3.8416) as accuracy_high,
       too_light, too_heavy
from (
    select date_trunc('week', decided_at at time zone 'UTC')::date as week, level, model, model_version,
           count(*) as labels, count(*) filter (where agrees) as correct,
           count(*) filter (where predicted < label) as too_light, count(*) filter (where predicted > label) as too_heavy
    from analytics.label_agreement
    group by 1, 2, 3, 4
) counted;
comment on view analytics.live_accuracy is 'How often the model in force agreed with the adjusters, by the week in which they decided.';
comment on column analytics.live_accuracy.week is 'The Monday (UTC) that the week begins with.';
comment on column analytics.live_accuracy.level is 'photograph or claim: what the decisions are about.';
comment on column analytics.live_accuracy.model is 'The model in force: its name.';
comment on column analytics.live_accuracy.model_version is 'The model in force: its version.';
comment on column analytics.live_accuracy.labels is 'How many decisions have a prediction beside them.';
comment on column analytics.live_accuracy.correct is 'How many predictions were the same as the decision.';
comment on column analytics.live_accuracy.accuracy is 'Their share, 0 to 1.';
comment on column analytics.live_accuracy.accuracy_low is 'Lower end of the 95 % Wilson interval of the accuracy.';
comment on column analytics.live_accuracy.accuracy_high is 'Upper end of the 95 % Wilson interval of the accuracy.';
comment on column analytics.live_accuracy.too_light is 'How many predictions were less severe than the decision.';
comment on column analytics.live_accuracy.too_heavy is 'How many predictions were more severe than the decision.';

grant select on analytics.alias_history, analytics.model_comparisons, analytics.human_labels, analytics.label_agreement,
                analytics.live_accuracy to perito_analyst;
