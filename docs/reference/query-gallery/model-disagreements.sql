-- On which photographs do two versions of a model differ most?
--
-- Those that the newest finished runs of the two newest versions have both scored, and graded differently; the widest apart first.
-- The distance is half the sum of the differences of the three probabilities: 0 if they are the same, 1 if nothing is.
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
select a.claim_id, a.bucket, a.key, a.severity as older_version, b.severity as newer_version,
       round((abs(a.p_minor - b.p_minor) + abs(a.p_moderate - b.p_moderate) + abs(a.p_severe - b.p_severe))::numeric / 2, 3) as distance
from older a
join newer b using (image_id)
where a.severity <> b.severity
order by distance desc, a.image_id
limit 50;
