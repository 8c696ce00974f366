-- Months of nightly runs in an empty, migrated database: for benchmarks of the analysts' queries, and, small, for their tests.
--
-- Sizes are settings, as in PGOPTIONS='-c bench.images=1000000 -c bench.predictions=10000000 -c bench.nights=180':
--   bench.images       photographs in the catalogue, five a claim
--   bench.predictions  scores: each night, severity@1 (production) and then severity@2 score the next part of the catalogue
--   bench.nights       nights, the last of them yesterday
-- Everything else follows from them: no chance, so that figures can be compared. Photographs show more damage in the last quarter of
-- the nights, which is the drift that the gallery's queries find.

do $$
begin
    if exists (select from jobs) or exists (select from images) then
        raise exception 'the database is not empty: make one for this';
    end if;
    perform set_config('bench.images', coalesce(current_setting('bench.images', true), '2000'), false),
            set_config('bench.predictions', coalesce(current_setting('bench.predictions', true), '20000'), false),
            set_config('bench.nights', coalesce(current_setting('bench.nights', true), '60'), false);
end
$$;

-- From 0 to 1, like chance, from its arguments alone.
create function pg_temp.noise(a bigint, b bigint) returns double precision language sql immutable as
$$ select (hashint8extended(a, b) & 16777215) / 16777216.0::double precision $$;

-- What a version of the model says of a photograph that shows this much damage, 0 to 1. The second version is surer.
create function pg_temp.grade(damage double precision, image bigint, version bigint)
returns table (severity severity, p_minor real, p_moderate real, p_severe real) language sql immutable as
$$
    select case greatest(a, b, c) when a then 'minor'::severity when b then 'moderate' else 'severe' end,
           a / (a + b + c), b / (a + b + c), c / (a + b + c)
    from (select exp(-4 * (1 + version) * abs(damage - 0.15) + 2 * pg_temp.noise(image, version)) as a,
                 exp(-4 * (1 + version) * abs(damage - 0.5) + 2 * pg_temp.noise(image, version + 10)) as b,
                 exp(-4 * (1 + version) * abs(damage - 0.85) + 2 * pg_temp.noise(image, version + 20)) as c) raised
$$;

-- The catalogue: claims, and a labelled dataset.
insert into images (bucket, key, etag, size_bytes, claim_id, registered_at)
select 'perito', format('claims/C-%s/%s.jpg', lpad((n / 5)::text, 8, '0'), n % 5), md5(n::text), 500000 + n % 1000000,
       'C-' || lpad((n / 5)::text, 8, '0'), now() - interval '3 years'
from generate_series(0, current_setting('bench.images')::bigint - 1) n;
insert into images (bucket, key, etag, size_bytes, label, registered_at)
select 'perito', format('datasets/bench/validation/%s.jpg', n), md5('labelled ' || n), 500000, (enum_range(null::severity))[1 + n % 3],
       now() - interval '3 years'
from generate_series(0, 2999) n;
insert into datasets (name, version, digest, created_at, frozen_at)
values ('bench', 1, repeat('d', 64), now() - interval '3 years', now() - interval '3 years');
insert into dataset_items (dataset_id, image_id, split, label)
select d.id, i.id, 'validation', i.label from datasets d, images i where i.label is not null;

-- A run's job, tasks of 500 photographs and attempts: four workers, each with two tasks at once. The first attempt of every 50th task
-- was lost.
create procedure pg_temp.work(run uuid, run_kind text, opened timestamptz, first_image bigint, images bigint, model bigint)
language plpgsql as $$
begin
    perform ensure_prediction_partition(opened::date);
    insert into jobs (id, kind, state, spec, model_id, dataset_id, run_date, images_total, created_at, planned_at)
    values (run, run_kind, 'running', '{}', model, case when run_kind = 'train' then (select id from datasets) end,
            opened::date, images, opened, opened);
    insert into tasks (id, job_id, kind, ordinal, priority, state, image_ids, attempt, images_scored, worker, started_at, finished_at)
    select gen_random_uuid(), run, run_kind, n, 4, 'succeeded',
           case when run_kind = 'score' then array(
               select 1 + (first_image + k) % current_setting('bench.images')::bigint
               from generate_series(n * 500, least(n * 500 + 499, images - 1)) k order by 1) else '{}' end,
           case when n % 50 = 49 then 2 else 1 end, least(500, images - n * 500), 'worker-' || n % 4,
           opened + make_interval(secs => 10 * (n / 4)), opened + make_interval(secs => 10 * (n / 4) + 20)
    from generate_series(0, (images - 1) / 500) n;
    insert into attempts (task_id, attempt, worker, started_at, ended_at, outcome)
    select id, 1, worker, started_at, case attempt when 1 then finished_at else started_at + (finished_at - started_at) / 2 end,
           case attempt when 1 then 'succeeded' else 'expired' end
    from tasks where job_id = run
    union all
    select id, 2, worker, started_at + (finished_at - started_at) / 2, finished_at, 'succeeded'
    from tasks where job_id = run and attempt = 2;
end
$$;

-- In the database's own time zone days would begin elsewhere.
set time zone 'UTC';

-- Two models, each made by a run that measured it.
do $$
declare
    run        uuid;
    opened     timestamptz;
    model      bigint;
    evaluation bigint;
begin
    for version in 1..2 loop
        run := gen_random_uuid();
        opened := current_date - current_setting('bench.nights')::int - 4 + version;
        call pg_temp.work(run, 'train', opened, 0, 3000, null);
        insert into models (name, version, architecture, dropout, class_names, preprocessing, artifact_bucket, artifact_key,
                            artifact_sha256, artifact_bytes, job_id, dataset_id, dataset_digest, hyperparameters, best_epoch,
                            code_version, source, created_at, seed, spec_sha256, libtorch_version, device)
        values ('severity', version, 'resnet18', 0.6, '{minor,moderate,severe}', '{}', 'perito', 'models/severity/' || version,
                repeat(version::text, 64), 45000000, run, (select id from datasets), repeat('d', 64), '{"epochs": 20}', 12,
                'generated', 'generated', opened, 42, repeat('e', 64), '2.13.0', 'cpu')
        returning id into model;
        insert into predictions (job_id, image_id, run_date, severity, p_minor, p_moderate, p_severe, scored_at)
        select run, image_id, opened::date, g.severity, g.p_minor, g.p_moderate, g.p_severe, opened
        from dataset_items,
             pg_temp.grade(array_position(enum_range(null::severity), label) * 0.35 - 0.4 + 0.4 * pg_temp.noise(image_id, 0),
                           image_id, version) g;
        insert into evaluations (job_id, model_id, dataset_id, split, images, accuracy, macro_precision, macro_recall, macro_f1,
                                 weighted_precision, weighted_recall, weighted_f1, created_at)
        values (run, model, (select id from datasets), 'validation', 3000, 0, 0, 0, 0, 0, 0, 0, opened)
        returning id into evaluation;
        insert into confusion_cells (evaluation_id, actual, predicted, images)
        select evaluation, actual, predicted,
               (select count(*) from predictions p join dataset_items d using (image_id)
                where p.job_id = run and d.label = actual and p.severity = predicted)
        from unnest(enum_range(null::severity)) actual, unnest(enum_range(null::severity)) predicted;
        insert into evaluation_classes (evaluation_id, severity, precision, recall, f1, support)
        select evaluation, class, hit / greatest(said, 1), hit / support, 2 * hit / (said + support), support
        from (
            select class, sum(images) filter (where actual = class and predicted = class)::double precision as hit,
                   sum(images) filter (where predicted = class) as said, sum(images) filter (where actual = class) as support
            from confusion_cells cross join unnest(enum_range(null::severity)) class
            where evaluation_id = evaluation group by class
        ) counted;
        -- Every class has the same support, so weighted means are plain ones.
        update evaluations
        set accuracy = c.r, macro_precision = c.p, macro_recall = c.r, macro_f1 = c.f, weighted_precision = c.p,
            weighted_recall = c.r, weighted_f1 = c.f
        from (select avg(precision) as p, avg(recall) as r, avg(f1) as f from evaluation_classes where evaluation_id = evaluation) c
        where id = evaluation;
        update jobs set state = 'succeeded', model_id = model, images_scored = 3000, images_failed = 0,
                        finished_at = opened + interval '3 hours'
        where id = run;
    end loop;
    insert into model_aliases (name, alias, model_id) select 'severity', 'production', id from models where version = 1;
end
$$;

-- The nights.
do $$
declare
    catalogue constant bigint := current_setting('bench.images');
    nights    constant bigint := current_setting('bench.nights');
    per_run   constant bigint := greatest(1, least(catalogue, current_setting('bench.predictions')::bigint / nights / 2));
    run       uuid;
    opened    timestamptz;
    drift     double precision;
    model     bigint;
begin
    for night in 0..nights - 1 loop
        drift := 0.4 * greatest(0, night - nights * 3 / 4) / nights;
        for night_version in 1..2 loop
            run := gen_random_uuid();
            opened := current_date - (nights - night)::int + make_interval(hours => 2 * night_version);
            select id into model from models where version = night_version;
            call pg_temp.work(run, 'score', opened, night * per_run, per_run, model);
            insert into predictions (job_id, image_id, run_date, severity, p_minor, p_moderate, p_severe, scored_at)
            select run, image, opened::date, g.severity, g.p_minor, g.p_moderate, g.p_severe, opened + interval '1 minute'
            from (select 1 + (night * per_run + k) % catalogue as image from generate_series(0, per_run - 1) k) selected,
                 pg_temp.grade(drift + pg_temp.noise(image / 5, 1) * 0.7 + pg_temp.noise(image, 2) * 0.3, image, night_version) g;
            update jobs set state = 'succeeded', images_scored = per_run, images_failed = 0, finished_at = opened + interval '1 hour'
            where id = run;
        end loop;
    end loop;
end
$$;

drop procedure pg_temp.work;
