-- Tokens of the API. Of a token only its public id and a digest are stored: whoever reads this table can use none of them.

create table api_tokens (
    id           text        primary key check (id ~ '^[0-9a-f]{16}$'),
    name         text        not null check (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    role         text        not null check (role in ('viewer', 'operator', 'admin')),
    -- SHA-256.
    digest       bytea       not null check (octet_length(digest) = 32),
    created_at   timestamptz not null default now(),
    -- The token that made it, or the Postgres role.
    created_by   text        not null,
    expires_at   timestamptz,
    -- To the minute.
    last_used_at timestamptz,
    revoked_at   timestamptz
);
-- A name is free again when its token has been revoked; the row stays, so that a log's names can be traced.
create unique index api_tokens_in_force on api_tokens (name) where revoked_at is null;
