-- The catalogue: photographs, frozen datasets, and the model registry.

-- In ascending order of damage, so that max() is the worst.
create type severity as enum ('minor', 'moderate', 'severe');

-- One row per version of a photograph. An object that is replaced (another ETag) becomes a new row, and the old one
-- is superseded: what was scored stays known.
create table images (
    id            bigint generated always as identity primary key,
    bucket        text        not null check (length(bucket) between 1 and 63),
    key           text        not null check (octet_length(key) between 1 and 1024),
    etag          text        not null check (length(etag) between 1 and 128),
    size_bytes    bigint      not null check (size_bytes >= 0),
    claim_id      text        check (length(claim_id) between 1 and 128),
    label         severity,
    registered_at timestamptz not null default now(),
    superseded_at timestamptz,
    unique (bucket, key, etag)
);
create index images_present on images (bucket, key text_pattern_ops) where superseded_at is null;
create index images_by_claim on images (claim_id);

-- A frozen, versioned, labelled selection. A draft (frozen_at is null) is being filled and serves no job.
create table datasets (
    id         bigint generated always as identity primary key,
    name       text        not null check (length(name) between 1 and 64),
    version    integer     not null check (version > 0),
    digest     text        check (digest ~ '^[0-9a-f]{64}$'),
    created_at timestamptz not null default now(),
    frozen_at  timestamptz,
    unique (name, version),
    check ((frozen_at is null) = (digest is null))
);

create table dataset_items (
    dataset_id bigint   not null references datasets on delete cascade,
    image_id   bigint   not null references images,
    split      text     not null check (split in ('training', 'validation')),
    label      severity not null,
    primary key (dataset_id, image_id)
);

-- The registry. A version never changes; only aliases move.
create table models (
    id              bigint generated always as identity primary key,
    name            text        not null check (length(name) between 1 and 64),
    version         integer     not null check (version > 0),
    architecture    text        not null check (architecture in ('cnn4', 'resnet18')),
    dropout         double precision not null,
    -- Empty for imported weights whose head is not Perito's: good to start training from, not to score with.
    class_names     text[]      not null,
    preprocessing   jsonb       not null,
    artifact_bucket text        not null,
    artifact_key    text        not null,
    artifact_sha256 text        not null check (artifact_sha256 ~ '^[0-9a-f]{64}$'),
    artifact_bytes  bigint      not null check (artifact_bytes > 0),
    -- Lineage. All null for an imported model.
    job_id          uuid,
    dataset_id      bigint      references datasets,
    dataset_digest  text,
    hyperparameters jsonb,
    best_epoch      integer,
    -- What made it: the release, libtorch and the device; for an import, what was imported.
    code_version    text        not null,
    source          text        not null,
    created_at      timestamptz not null default now(),
    unique (name, version)
);

create table model_aliases (
    name       text        not null,
    alias      text        not null check (length(alias) between 1 and 64),
    model_id   bigint      not null references models,
    updated_at timestamptz not null default now(),
    primary key (name, alias)
);
