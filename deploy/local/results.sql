-- What the demo shows at its end, read by the analyst's role from finished runs only.
\echo 'The newest model on its validation split'
select model || '@' || model_version as model, architecture, images, round(accuracy::numeric, 4) as accuracy,
       round(macro_f1::numeric, 4) as macro_f1, round(weighted_f1::numeric, 4) as weighted_f1
from analytics.model_metrics
order by finished_at desc
limit 1;

\echo 'By class'
select severity, round(precision::numeric, 4) as precision, round(recall::numeric, 4) as recall, round(f1::numeric, 4) as f1, support
from analytics.class_metrics
where job_id = (select job_id from analytics.model_metrics order by finished_at desc limit 1)
order by severity;

\echo 'Its confusion matrix (rows: what is so; columns: what the model said)'
select actual,
       sum(images) filter (where predicted = 'minor') as minor,
       sum(images) filter (where predicted = 'moderate') as moderate,
       sum(images) filter (where predicted = 'severe') as severe
from analytics.confusion_matrix
where job_id = (select job_id from analytics.model_metrics order by finished_at desc limit 1)
group by actual
order by actual;

\echo 'The ten worst claims'
select claim_id, severity, decided_by, photographs, severe_photographs, round(max_p_severe::numeric, 3) as max_p_severe,
       round(mean_p_severe::numeric, 3) as mean_p_severe
from analytics.claim_severity
order by severity desc, mean_p_severe desc, claim_id
limit 10;
