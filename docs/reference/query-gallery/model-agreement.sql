-- How often do two versions of a model agree about the same photographs?
--
-- Compares the newest finished scoring runs of the two newest versions: rows are what the older one said, columns what the newer one
-- said.
with newest as materialized (
    select (array_agg(job_id order by model_version desc))[1] as newer, (array_agg(job_id order by model_version desc))[2] as older
    from (
        select distinct on (model_version) job_id, model_version
        from analytics.run_costs
        where kind = 'score' and state = 'succeeded' and model = 'severity'
        order by model_version desc, finished_at desc
    ) by_version
), older as materialized (
    select * from analytics.predictions where job_id = (select older from newest)
), newer as materialized (
    select * from analytics.predictions where job_id = (select newer from newest)
)
select a.severity as older_version,
       count(*) filter (where b.severity = 'minor') as newer_minor,
       count(*) filter (where b.severity = 'moderate') as newer_moderate,
       count(*) filter (where b.severity = 'severe') as newer_severe,
       round(100.0 * count(*) filter (where b.severity = a.severity) / count(*), 1) as agreed_percent
from older a
join newer b using (image_id)
group by a.severity
order by a.severity;
