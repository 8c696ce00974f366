-- Do the stored metrics follow from the predictions?
--
-- Accuracy and macro precision, recall and F1 of each measurement, computed again from its rows beside what was stored. A class of
-- which nothing was said or nothing is counts as 0. The last column is the largest difference.
with counted as (
    select p.job_id, c.class,
           count(*) filter (where actual = class and predicted = class)::double precision as hit,
           count(*) filter (where predicted = class) as said,
           count(*) filter (where actual = class) as support
    from analytics.evaluation_predictions p
    cross join unnest(enum_range(null::severity)) as c(class)
    group by p.job_id, c.class
), recomputed as (
    select job_id, sum(hit) / sum(support)::double precision as accuracy,
           avg(coalesce(hit / nullif(said, 0), 0)) as macro_precision,
           avg(coalesce(hit / nullif(support, 0), 0)) as macro_recall,
           avg(coalesce(2 * hit / nullif(said + support, 0), 0)) as macro_f1
    from counted
    group by job_id
)
select m.model, m.model_version, m.dataset || '@' || m.dataset_version as dataset, m.split, m.measured_by,
       round(r.accuracy::numeric, 4) as accuracy, round(r.macro_precision::numeric, 4) as macro_precision,
       round(r.macro_recall::numeric, 4) as macro_recall, round(r.macro_f1::numeric, 4) as macro_f1,
       greatest(abs(r.accuracy - m.accuracy), abs(r.macro_precision - m.macro_precision),
                abs(r.macro_recall - m.macro_recall), abs(r.macro_f1 - m.macro_f1)) as largest_difference
from analytics.model_metrics m
join recomputed r using (job_id)
order by m.finished_at desc;
