-- The logins of coordinator and workers, members of the roles that migrations make: each may do what its role may and nothing else. By the
-- owner, after `perito migrate`; run again, it sets the passwords anew. They come from PERITO_COORDINATOR_PASSWORD and PERITO_WORKER_PASSWORD,
-- and without either it fails:
--
--     psql -Xqf deploy/logins.sql "$PERITO_DATABASE_URL"
\set ON_ERROR_STOP on
\getenv coordinator_password PERITO_COORDINATOR_PASSWORD
\getenv worker_password PERITO_WORKER_PASSWORD
select format('create role %I login in role %I', login, role)
from (values ('perito_coordinator_1', 'perito_coordinator'), ('perito_worker_1', 'perito_worker')) as wanted (login, role)
where not exists (select from pg_roles where rolname = login)
\gexec
alter role perito_coordinator_1 password :'coordinator_password';
alter role perito_worker_1 password :'worker_password';
