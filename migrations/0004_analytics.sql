-- What analysts see: stable, commented views over finished runs, and a role that reads them and nothing else.
--
-- Every view of results takes its rows through finished_runs, so that a run shows whole or not at all.

create schema analytics;
comment on schema analytics is 'Finished, trustworthy results. A run appears here whole or not at all.';

-- Roles belong to the whole server: another database's migration may have made this one, or be making it now.
do $$
begin
    create role perito_analyst nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$;

create view finished_runs as
select id as job_id, kind, model_id, dataset_id, run_date, finished_at
from jobs
where state = 'succeeded';

create view analytics.predictions as
select p.job_id, p.image_id, i.claim_id, i.bucket, i.key, p.severity,
       p.p_minor, p.p_moderate, p.p_severe,
       greatest(p.p_minor, p.p_moderate, p.p_severe) as confidence,
       m.name as model, m.version as model_version, p.scored_at, r.finished_at
from finished_runs r
join predictions p on p.job_id = r.job_id and p.run_date = r.run_date
join images i on i.id = p.image_id
join models m on m.id = r.model_id
where r.kind = 'score';
comment on view analytics.predictions is 'Every score of every finished scoring run: one row per run and photograph.';
comment on column analytics.predictions.job_id is 'The run; see job_runs.';
comment on column analytics.predictions.image_id is 'The photograph''s number in the catalogue (one per version of the object).';
comment on column analytics.predictions.claim_id is 'The claim the photograph belongs to, if known.';
comment on column analytics.predictions.bucket is 'Where the photograph is: the bucket.';
comment on column analytics.predictions.key is 'Where the photograph is: the key in the bucket.';
comment on column analytics.predictions.severity is 'The class with the highest probability: minor < moderate < severe.';
comment on column analytics.predictions.p_minor is 'Probability of minor damage, 0 to 1; the three add up to 1.';
comment on column analytics.predictions.p_moderate is 'Probability of moderate damage, 0 to 1.';
comment on column analytics.predictions.p_severe is 'Probability of severe damage, 0 to 1.';
comment on column analytics.predictions.confidence is 'The highest of the three probabilities.';
comment on column analytics.predictions.model is 'The model''s name.';
comment on column analytics.predictions.model_version is 'The model''s version.';
comment on column analytics.predictions.scored_at is 'When the score was committed.';
comment on column analytics.predictions.finished_at is 'When the run finished and so appeared here.';

create view analytics.image_severity as
select distinct on (image_id)
       image_id, claim_id, bucket, key, severity, p_minor, p_moderate, p_severe, confidence,
       model, model_version, job_id, scored_at
from analytics.predictions
order by image_id, finished_at desc, job_id desc;
comment on view analytics.image_severity is 'The latest score of each photograph, whichever model gave it.';
comment on column analytics.image_severity.image_id is 'The photograph''s number in the catalogue.';
comment on column analytics.image_severity.claim_id is 'The claim the photograph belongs to, if known.';
comment on column analytics.image_severity.bucket is 'Where the photograph is: the bucket.';
comment on column analytics.image_severity.key is 'Where the photograph is: the key in the bucket.';
comment on column analytics.image_severity.severity is 'The class with the highest probability in the latest run.';
comment on column analytics.image_severity.p_minor is 'Probability of minor damage, 0 to 1.';
comment on column analytics.image_severity.p_moderate is 'Probability of moderate damage, 0 to 1.';
comment on column analytics.image_severity.p_severe is 'Probability of severe damage, 0 to 1.';
comment on column analytics.image_severity.confidence is 'The highest of the three probabilities.';
comment on column analytics.image_severity.model is 'The model that gave the score.';
comment on column analytics.image_severity.model_version is 'That model''s version.';
comment on column analytics.image_severity.job_id is 'The run that gave the score; see job_runs.';
comment on column analytics.image_severity.scored_at is 'When the score was committed.';

create view analytics.claim_severity as
select claim_id,
       -- The worst photograph that the model is sure of; where it is sure of none, the class of the mean probabilities.
       coalesce(
           max(severity) filter (where confidence >= 0.5),
           case greatest(avg(p_minor), avg(p_moderate), avg(p_severe))
               when avg(p_minor) then 'minor'::severity
               when avg(p_moderate) then 'moderate'::severity
               else 'severe'::severity
           end
       ) as severity,
       count(*) as photographs,
       count(*) filter (where severity = 'severe') as severe_photographs,
       avg(p_minor)::real as mean_p_minor,
       avg(p_moderate)::real as mean_p_moderate,
       avg(p_severe)::real as mean_p_severe,
       max(p_severe) as max_p_severe,
       max(scored_at) as scored_at
from analytics.image_severity
where claim_id is not null
group by claim_id;
comment on view analytics.claim_severity is 'Each claim by its photographs'' latest scores: the worst photograph with a confidence of 0.5 or more, else the class of the mean probabilities.';
comment on column analytics.claim_severity.claim_id is 'The claim.';
comment on column analytics.claim_severity.severity is 'The claim''s class, by the rule above.';
comment on column analytics.claim_severity.photographs is 'How many of its photographs have a score.';
comment on column analytics.claim_severity.severe_photographs is 'How many of them were graded severe.';
comment on column analytics.claim_severity.mean_p_minor is 'Mean probability of minor damage over its photographs.';
comment on column analytics.claim_severity.mean_p_moderate is 'Mean probability of moderate damage over its photographs.';
comment on column analytics.claim_severity.mean_p_severe is 'Mean probability of severe damage over its photographs.';
comment on column analytics.claim_severity.max_p_severe is 'Highest probability of severe damage of any of its photographs.';
comment on column analytics.claim_severity.scored_at is 'When its newest score was committed.';

create view analytics.model_metrics as
select m.name as model, m.version as model_version, m.architecture,
       d.name as dataset, d.version as dataset_version, e.split, r.kind as measured_by, r.job_id,
       e.images, e.accuracy, e.macro_precision, e.macro_recall, e.macro_f1,
       e.weighted_precision, e.weighted_recall, e.weighted_f1, r.finished_at
from finished_runs r
join evaluations e on e.job_id = r.job_id
join models m on m.id = e.model_id
join datasets d on d.id = e.dataset_id;
comment on view analytics.model_metrics is 'Each measurement of a model on a labelled dataset: by its own training (the best epoch on the validation split) and by evaluation runs.';
comment on column analytics.model_metrics.model is 'The model''s name.';
comment on column analytics.model_metrics.model_version is 'The model''s version.';
comment on column analytics.model_metrics.architecture is 'The network: cnn4 or resnet18.';
comment on column analytics.model_metrics.dataset is 'The dataset''s name.';
comment on column analytics.model_metrics.dataset_version is 'The dataset''s version.';
comment on column analytics.model_metrics.split is 'The part of the dataset: training or validation.';
comment on column analytics.model_metrics.measured_by is 'The kind of run that measured it: train or evaluate.';
comment on column analytics.model_metrics.job_id is 'The run; see job_runs.';
comment on column analytics.model_metrics.images is 'How many photographs were graded.';
comment on column analytics.model_metrics.accuracy is 'Share of photographs whose class was right, 0 to 1.';
comment on column analytics.model_metrics.macro_precision is 'Mean over classes of precision.';
comment on column analytics.model_metrics.macro_recall is 'Mean over classes of recall.';
comment on column analytics.model_metrics.macro_f1 is 'Mean over classes of F1.';
comment on column analytics.model_metrics.weighted_precision is 'Mean over classes of precision, weighted by support.';
comment on column analytics.model_metrics.weighted_recall is 'Mean over classes of recall, weighted by support.';
comment on column analytics.model_metrics.weighted_f1 is 'Mean over classes of F1, weighted by support.';
comment on column analytics.model_metrics.finished_at is 'When the run finished.';

create view analytics.class_metrics as
select m.name as model, m.version as model_version, r.job_id, c.severity, c.precision, c.recall, c.f1, c.support
from finished_runs r
join evaluations e on e.job_id = r.job_id
join models m on m.id = e.model_id
join evaluation_classes c on c.evaluation_id = e.id;
comment on view analytics.class_metrics is 'Each measurement by class. A figure whose denominator is zero is 0.';
comment on column analytics.class_metrics.model is 'The model''s name.';
comment on column analytics.class_metrics.model_version is 'The model''s version.';
comment on column analytics.class_metrics.job_id is 'The run; one row of model_metrics.';
comment on column analytics.class_metrics.severity is 'The class.';
comment on column analytics.class_metrics.precision is 'Of the photographs graded so, the share that are.';
comment on column analytics.class_metrics.recall is 'Of the photographs that are, the share graded so.';
comment on column analytics.class_metrics.f1 is 'Harmonic mean of precision and recall.';
comment on column analytics.class_metrics.support is 'How many photographs are of the class.';

create view analytics.confusion_matrix as
select m.name as model, m.version as model_version, r.job_id, c.actual, c.predicted, c.images
from finished_runs r
join evaluations e on e.job_id = r.job_id
join models m on m.id = e.model_id
join confusion_cells c on c.evaluation_id = e.id;
comment on view analytics.confusion_matrix is 'Each measurement''s counts by actual and predicted class: nine rows a measurement.';
comment on column analytics.confusion_matrix.model is 'The model''s name.';
comment on column analytics.confusion_matrix.model_version is 'The model''s version.';
comment on column analytics.confusion_matrix.job_id is 'The run; one row of model_metrics.';
comment on column analytics.confusion_matrix.actual is 'The class on the label.';
comment on column analytics.confusion_matrix.predicted is 'The class that the model gave.';
comment on column analytics.confusion_matrix.images is 'How many photographs.';

create view analytics.evaluation_predictions as
select p.job_id, p.image_id, d.label as actual, p.severity as predicted,
       p.p_minor, p.p_moderate, p.p_severe
from finished_runs r
join evaluations e on e.job_id = r.job_id
join predictions p on p.job_id = r.job_id and p.run_date = r.run_date
join dataset_items d on d.dataset_id = e.dataset_id and d.image_id = p.image_id;
comment on view analytics.evaluation_predictions is 'The rows behind each measurement: every metric can be computed again from here.';
comment on column analytics.evaluation_predictions.job_id is 'The run; one row of model_metrics.';
comment on column analytics.evaluation_predictions.image_id is 'The photograph''s number in the catalogue.';
comment on column analytics.evaluation_predictions.actual is 'The class on the label.';
comment on column analytics.evaluation_predictions.predicted is 'The class that the model gave.';
comment on column analytics.evaluation_predictions.p_minor is 'Probability of minor damage, 0 to 1.';
comment on column analytics.evaluation_predictions.p_moderate is 'Probability of moderate damage, 0 to 1.';
comment on column analytics.evaluation_predictions.p_severe is 'Probability of severe damage, 0 to 1.';

create view analytics.training_curves as
select r.job_id, m.name as model, m.version as model_version, t.epoch,
       t.training_loss, t.training_accuracy, t.validation_loss, t.validation_accuracy, t.validation_macro_f1,
       t.epoch = m.best_epoch as is_best, t.learning_rate, t.seconds, t.images_per_second, t.device, t.finished_at
from finished_runs r
join models m on m.job_id = r.job_id
join training_epochs t on t.job_id = r.job_id;
comment on view analytics.training_curves is 'Each epoch of each finished training run.';
comment on column analytics.training_curves.job_id is 'The run; see job_runs.';
comment on column analytics.training_curves.model is 'The model that the run made: its name.';
comment on column analytics.training_curves.model_version is 'The model that the run made: its version.';
comment on column analytics.training_curves.epoch is 'The epoch, counted from 1.';
comment on column analytics.training_curves.training_loss is 'Mean cross-entropy over the training split, augmented, while its weights changed.';
comment on column analytics.training_curves.training_accuracy is 'Share of training photographs that were right, augmented, while weights changed.';
comment on column analytics.training_curves.validation_loss is 'Mean cross-entropy over the validation split after the epoch.';
comment on column analytics.training_curves.validation_accuracy is 'Share of validation photographs that were right after the epoch.';
comment on column analytics.training_curves.validation_macro_f1 is 'Mean over classes of F1 on the validation split after the epoch.';
comment on column analytics.training_curves.is_best is 'Whether the model that was registered is this epoch''s.';
comment on column analytics.training_curves.learning_rate is 'The learning rate of the epoch.';
comment on column analytics.training_curves.seconds is 'How long the epoch took, validation included, in seconds.';
comment on column analytics.training_curves.images_per_second is 'Training photographs per second, validation not included.';
comment on column analytics.training_curves.device is 'What it ran on, such as cpu or cuda:0.';
comment on column analytics.training_curves.finished_at is 'When the epoch ended.';

create view analytics.job_runs as
select j.id as job_id, j.kind, j.state, m.name as model, m.version as model_version,
       d.name as dataset, d.version as dataset_version,
       j.images_total, j.images_scored, j.images_failed, j.error,
       j.created_at, j.planned_at, j.finished_at,
       extract(epoch from j.finished_at - j.created_at)::double precision as seconds
from jobs j
left join models m on m.id = j.model_id
left join datasets d on d.id = j.dataset_id
where j.state in ('succeeded', 'failed', 'cancelled');
comment on view analytics.job_runs is 'Every run that has ended. Only those that succeeded have rows in the other views.';
comment on column analytics.job_runs.job_id is 'The run.';
comment on column analytics.job_runs.kind is 'train, score or evaluate.';
comment on column analytics.job_runs.state is 'succeeded, failed or cancelled.';
comment on column analytics.job_runs.model is 'The model that it scored with, measured or made: its name.';
comment on column analytics.job_runs.model_version is 'That model''s version.';
comment on column analytics.job_runs.dataset is 'The dataset it used, if any: its name.';
comment on column analytics.job_runs.dataset_version is 'That dataset''s version.';
comment on column analytics.job_runs.images_total is 'How many photographs were selected.';
comment on column analytics.job_runs.images_scored is 'How many have a score.';
comment on column analytics.job_runs.images_failed is 'How many could not be scored; see image_failures.';
comment on column analytics.job_runs.error is 'Why it failed, if it did.';
comment on column analytics.job_runs.created_at is 'When it was submitted.';
comment on column analytics.job_runs.planned_at is 'When its photographs were frozen.';
comment on column analytics.job_runs.finished_at is 'When it ended.';
comment on column analytics.job_runs.seconds is 'From submission to end, in seconds.';

create view analytics.image_failures as
select f.job_id, f.image_id, i.claim_id, i.bucket, i.key, f.reason, f.detail, f.failed_at
from finished_runs r
join image_failures f on f.job_id = r.job_id
join images i on i.id = f.image_id;
comment on view analytics.image_failures is 'Photographs that a finished run could not score, and why.';
comment on column analytics.image_failures.job_id is 'The run; see job_runs.';
comment on column analytics.image_failures.image_id is 'The photograph''s number in the catalogue.';
comment on column analytics.image_failures.claim_id is 'The claim the photograph belongs to, if known.';
comment on column analytics.image_failures.bucket is 'Where the photograph is: the bucket.';
comment on column analytics.image_failures.key is 'Where the photograph is: the key in the bucket.';
comment on column analytics.image_failures.reason is 'missing, changed, empty, too_large, too_many_pixels, unsupported or corrupt.';
comment on column analytics.image_failures.detail is 'What exactly was found.';
comment on column analytics.image_failures.failed_at is 'When it was found.';

grant usage on schema analytics to perito_analyst;
grant select on all tables in schema analytics to perito_analyst;
grant usage on type severity to perito_analyst;
