-- Where does a score come from?
--
-- From the latest score of a photograph back to the run, the model's weights, the dataset and specification that it was trained with,
-- and the code.
select p.bucket, p.key, p.etag, p.severity, round(p.confidence::numeric, 3) as confidence, p.scored_at,
       p.job_id as scored_by_run,
       l.model || '@' || l.model_version as model, l.architecture, l.artifact_sha256,
       l.job_id as trained_by_run, l.dataset || '@' || l.dataset_version as dataset, l.dataset_digest,
       l.spec_sha256, l.seed, l.best_epoch, l.code_version, l.libtorch_version, l.device
from analytics.predictions p
join analytics.model_lineage l on l.model = p.model and l.model_version = p.model_version
where p.bucket = 'perito' and p.key = 'claims/C-00000007/0.jpg'
order by p.finished_at desc
limit 1;
