-- What a measurement says beyond its confusion matrix. Null in measurements of earlier releases.

alter table evaluations
    add column log_loss          double precision,
    add column calibration_error double precision,
    add column accuracy_low      double precision,
    add column accuracy_high     double precision,
    add column macro_f1_low      double precision,
    add column macro_f1_high     double precision;
alter table evaluation_classes add column roc_auc double precision;

create or replace view analytics.model_metrics as
select m.name as model, m.version as model_version, m.architecture,
       d.name as dataset, d.version as dataset_version, e.split, r.kind as measured_by, r.job_id,
       e.images, e.accuracy, e.macro_precision, e.macro_recall, e.macro_f1,
       e.weighted_precision, e.weighted_recall, e.weighted_f1, r.finished_at,
       e.log_loss, e.calibration_error, e.accuracy_low, e.accuracy_high, e.macro_f1_low, e.macro_f1_high
from finished_runs r
join evaluations e on e.job_id = r.job_id
join models m on m.id = e.model_id
join datasets d on d.id = e.dataset_id;
comment on column analytics.model_metrics.log_loss is 'Mean cross-entropy of the labels under the probabilities, in nats: lower is better, ln 3 = 1.0986 is chance.';
comment on column analytics.model_metrics.calibration_error is 'Expected calibration error of the top label: mean distance between confidence and accuracy over 15 bins, 0 to 1.';
comment on column analytics.model_metrics.accuracy_low is 'Lower end of the 95 % bootstrap interval of the accuracy.';
comment on column analytics.model_metrics.accuracy_high is 'Upper end of the 95 % bootstrap interval of the accuracy.';
comment on column analytics.model_metrics.macro_f1_low is 'Lower end of the 95 % bootstrap interval of the macro F1.';
comment on column analytics.model_metrics.macro_f1_high is 'Upper end of the 95 % bootstrap interval of the macro F1.';

create or replace view analytics.class_metrics as
select m.name as model, m.version as model_version, r.job_id, c.severity, c.precision, c.recall, c.f1, c.support, c.roc_auc
from finished_runs r
join evaluations e on e.job_id = r.job_id
join models m on m.id = e.model_id
join evaluation_classes c on c.evaluation_id = e.id;
comment on column analytics.class_metrics.roc_auc is 'Area under the ROC curve of the class against the others, 0 to 1; null when the split has no images of the class, or none of others.';

-- Where an epoch's numbers come from, enough to make them again.
alter table training_epochs
    add column seed             numeric(20, 0),
    add column spec_sha256      text,
    add column dataset_digest   text,
    add column code_version     text,
    add column libtorch_version text;
alter table models
    add column seed             numeric(20, 0),
    add column spec_sha256      text,
    add column libtorch_version text,
    add column device           text;

create or replace view analytics.training_curves as
select r.job_id, m.name as model, m.version as model_version, t.epoch,
       t.training_loss, t.training_accuracy, t.validation_loss, t.validation_accuracy, t.validation_macro_f1,
       t.epoch = m.best_epoch as is_best, t.learning_rate, t.seconds, t.images_per_second, t.device, t.finished_at,
       t.seed, t.spec_sha256, t.dataset_digest, t.code_version, t.libtorch_version
from finished_runs r
join models m on m.job_id = r.job_id
join training_epochs t on t.job_id = r.job_id;
comment on column analytics.training_curves.seed is 'The seed of everything random in the run.';
comment on column analytics.training_curves.spec_sha256 is 'SHA-256 of the training specification as JSON: runs with the same one were asked for the same.';
comment on column analytics.training_curves.dataset_digest is 'SHA-256 of the dataset''s contents.';
comment on column analytics.training_curves.code_version is 'The release that ran the epoch.';
comment on column analytics.training_curves.libtorch_version is 'The version of libtorch that ran the epoch.';
