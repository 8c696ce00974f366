-- What jobs produce. Every row is written in the transaction that ends its task, except training_epochs, which are
-- written as they happen under the same fence.

-- Rows of scoring jobs and of evaluations. Partitioned by the day of the run, by month.
create table predictions (
    job_id     uuid        not null,
    image_id   bigint      not null,
    run_date   date        not null,
    severity   severity    not null,
    p_minor    real        not null,
    p_moderate real        not null,
    p_severe   real        not null,
    scored_at  timestamptz not null default now(),
    primary key (job_id, image_id, run_date)
) partition by range (run_date);
create index predictions_by_image on predictions (image_id, job_id);

-- Makes the monthly partition of a day, once, whoever asks first.
create function ensure_prediction_partition(day date) returns void language plpgsql as $$
declare
    first_day date := date_trunc('month', day);
    partition text := 'predictions_' || to_char(first_day, 'YYYY_MM');
begin
    if to_regclass(partition) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('ensure_prediction_partition'));
    -- Whoever held the lock may have made it. (Asking to_regclass again could be answered from a stale cache.)
    execute format('create table if not exists %I partition of predictions for values from (%L) to (%L)',
                   partition, first_day, first_day + interval '1 month');
end
$$;

create table image_failures (
    job_id    uuid        not null references jobs,
    image_id  bigint      not null references images,
    task_id   uuid        not null references tasks,
    reason    text        not null,
    detail    text        not null,
    failed_at timestamptz not null default now(),
    primary key (job_id, image_id)
);

create table training_epochs (
    job_id              uuid             not null references jobs,
    -- Counted from 1.
    epoch               integer          not null check (epoch > 0),
    attempt             integer          not null,
    training_loss       double precision not null,
    training_accuracy   double precision not null,
    validation_loss     double precision not null,
    validation_accuracy double precision not null,
    validation_macro_f1 double precision not null,
    learning_rate       double precision not null,
    seconds             double precision not null,
    images_per_second   double precision not null,
    device              text             not null,
    finished_at         timestamptz      not null default now(),
    primary key (job_id, epoch)
);

-- One per evaluation job, and one per training job: the best epoch on the validation split.
create table evaluations (
    id                 bigint generated always as identity primary key,
    job_id             uuid             not null unique references jobs,
    model_id           bigint           not null references models,
    dataset_id         bigint           not null references datasets,
    split              text             not null check (split in ('training', 'validation')),
    images             bigint           not null,
    accuracy           double precision not null,
    macro_precision    double precision not null,
    macro_recall       double precision not null,
    macro_f1           double precision not null,
    weighted_precision double precision not null,
    weighted_recall    double precision not null,
    weighted_f1        double precision not null,
    created_at         timestamptz      not null default now()
);

create table evaluation_classes (
    evaluation_id bigint           not null references evaluations on delete cascade,
    severity      severity         not null,
    precision     double precision not null,
    recall        double precision not null,
    f1            double precision not null,
    support       bigint           not null,
    primary key (evaluation_id, severity)
);

create table confusion_cells (
    evaluation_id bigint   not null references evaluations on delete cascade,
    actual        severity not null,
    predicted     severity not null,
    images        bigint   not null,
    primary key (evaluation_id, actual, predicted)
);
