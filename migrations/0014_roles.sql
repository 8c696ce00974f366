-- What each service may do in the database, as a role that a login is made a member of. None of them owns anything, so none can drop,
-- truncate or alter; migrations and retention run as the owner.
--
-- A table that a later migration adds may be read and written by the services, until that migration takes away what they need not do.

-- Roles belong to the whole server: another database's migration may have made them, or be making them now; or an administrator has,
-- where the owner may make no roles.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['perito_coordinator', 'perito_worker'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception
                when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
end
$$;

-- What was everybody's: the functions below run with their owner's rights, or write nothing without a grant of their caller's.
revoke create on schema public from public;
revoke execute on function ensure_prediction_partition(date) from public;

-- Partitions are made when a job is planned, and only their owner may make them. Nothing that the caller could put into the way is
-- found before the tables of this schema.
alter function ensure_prediction_partition(date) security definer set search_path = public, pg_temp;
-- Summaries are the trigger's alone to write, whoever ends the run.
alter function summarise_ended_run() security definer set search_path = public, pg_temp;

-- The coordinator plans, dispatches, ends and shows jobs; it writes no result.
grant usage on schema intake, analytics to perito_coordinator;
grant select on all tables in schema public, intake, analytics to perito_coordinator;
grant execute on function ensure_prediction_partition(date) to perito_coordinator;
grant insert, update on jobs, tasks, images, settings, schedules, model_aliases, api_tokens to perito_coordinator;
grant insert, update, delete on datasets, dataset_items, models, schedule_runs, workers to perito_coordinator;
grant insert on sweep_runs, alias_moves, model_comparisons, human_labels, deleted_models to perito_coordinator;
grant update on attempts to perito_coordinator;
-- Of a model that is deleted.
grant delete on predictions, evaluations to perito_coordinator;
grant select, update, delete on intake.staging to perito_coordinator;
grant insert on intake.rejected to perito_coordinator;
grant insert, update, delete on intake.last_events to perito_coordinator;

-- A worker claims tasks and commits their results; it reads what a task is about, and no labels, schedules, settings or tokens.
grant select on jobs, tasks, attempts, images, datasets, dataset_items, models, model_aliases, deleted_models, evaluations, sweep_runs,
    sweep_leaderboard, workers to perito_worker;
grant update on tasks, attempts, sweep_runs to perito_worker;
-- It names the model that it has made; a job's state is the coordinator's.
grant update (model_id) on jobs to perito_worker;
grant select, insert, update on training_epochs to perito_worker;
grant insert on tasks, attempts, predictions, image_failures, evaluations, evaluation_classes, confusion_cells, models
    to perito_worker;
grant insert, update, delete on workers to perito_worker;

-- What later migrations add. A table of runs' stages may be there already, where this migration comes late.
alter default privileges in schema public grant select, insert, update, delete on tables to perito_coordinator;
alter default privileges in schema public grant select, insert, update on tables to perito_worker;
alter default privileges in schema analytics grant select on tables to perito_coordinator;
do $$
begin
    if to_regclass('task_stages') is not null then
        grant select, insert on task_stages to perito_worker;
    end if;
end
$$;

-- Both refuse a schema that they do not know. sqlx makes this table before the first migration; a database that was made by psql has none.
do $$
begin
    if to_regclass('_sqlx_migrations') is not null then
        grant select on _sqlx_migrations to perito_coordinator, perito_worker;
    end if;
end
$$;
