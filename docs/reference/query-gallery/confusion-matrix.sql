-- What does a model take for what? (Counted from the rows.)
--
-- The newest measurement of each version, counted again from the predictions behind it: rows are what is so, columns what the model
-- said. analytics.confusion_matrix has the same figures as they were stored.
with newest as (
    select distinct on (model, model_version) model, model_version, dataset, dataset_version, split, job_id
    from analytics.model_metrics
    order by model, model_version, finished_at desc
)
select model, model_version, dataset || '@' || dataset_version as dataset, split, actual,
       count(*) filter (where predicted = 'minor') as minor,
       count(*) filter (where predicted = 'moderate') as moderate,
       count(*) filter (where predicted = 'severe') as severe
from newest
join analytics.evaluation_predictions using (job_id)
group by model, model_version, dataset, dataset_version, split, actual
order by model, model_version, actual;
