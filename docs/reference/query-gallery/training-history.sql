-- How did the measured quality of a model change from version to version?
select model, model_version, architecture, dataset || '@' || dataset_version as dataset, split, measured_by,
       round(accuracy::numeric, 4) as accuracy, round(macro_f1::numeric, 4) as macro_f1,
       round((macro_f1 - lag(macro_f1) over (partition by model, dataset, dataset_version, split, measured_by order by model_version, finished_at))::numeric, 4)
           as change, finished_at
from analytics.model_metrics
order by model, model_version desc, finished_at desc;
