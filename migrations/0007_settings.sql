-- What an operator may change while everything runs. One row.

create table settings (
    only_row         boolean          primary key default true check (only_row),
    claim_confidence double precision not null default 0.5 check (claim_confidence between 0 and 1),
    updated_at       timestamptz      not null default now()
);
insert into settings default values;
