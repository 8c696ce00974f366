-- Why could photographs not be scored, in the last month's runs?
select reason, count(*) as photographs, count(distinct claim_id) as claims, min(key) as for_example
from analytics.image_failures
where failed_at >= now() - interval '30 days'
group by reason
order by photographs desc;
