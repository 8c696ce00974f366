-- Which claims have photographs that contradict each other: one minor, another severe?
--
-- Of the claims in the newest finished scoring run, by the latest score of each of their photographs, whichever run gave it; the
-- widest apart first.
with touched as (
    select distinct claim_id
    from analytics.predictions
    where job_id = (select job_id from analytics.run_costs where kind = 'score' and state = 'succeeded'
                    order by finished_at desc limit 1)
)
select claim_id, count(*) as photographs,
       count(*) filter (where severity = 'minor') as minor,
       count(*) filter (where severity = 'moderate') as moderate,
       count(*) filter (where severity = 'severe') as severe,
       round((max(p_severe) - min(p_severe))::numeric, 3) as spread
from touched
join analytics.image_severity using (claim_id)
group by claim_id
having min(severity) = 'minor' and max(severity) = 'severe'
order by spread desc, claim_id
limit 50;
