-- Which photographs should a person look at first?
--
-- Those whose latest score the model is least sure of.
select claim_id, bucket, key, severity, round(confidence::numeric, 3) as confidence,
       round(p_minor::numeric, 3) as p_minor, round(p_moderate::numeric, 3) as p_moderate, round(p_severe::numeric, 3) as p_severe,
       model, model_version, scored_at
from analytics.image_severity
where confidence < 0.5
order by confidence
limit 100;
