-- What is known of one claim's photographs?
--
-- The latest score of each.
select claim_id, bucket, key, severity, round(confidence::numeric, 3) as confidence, model, model_version, scored_at
from analytics.image_severity
where claim_id = 'C-00000007'
order by severity desc, confidence desc;
