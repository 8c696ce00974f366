-- What is the severity mix of each night, by model?
--
-- A day is that of the run (UTC). Reads run summaries, never the scores: it is as fast for years as for a week.
select run_date, model, model_version,
       sum(images) as images,
       round(100.0 * sum(images) filter (where severity = 'minor') / sum(images), 1) as minor_percent,
       round(100.0 * sum(images) filter (where severity = 'moderate') / sum(images), 1) as moderate_percent,
       round(100.0 * sum(images) filter (where severity = 'severe') / sum(images), 1) as severe_percent,
       round((sum(mean_confidence * images) / sum(images))::numeric, 3) as mean_confidence
from analytics.run_severity
where run_date >= current_date - 30
group by run_date, model, model_version
order by run_date desc, model, model_version;
