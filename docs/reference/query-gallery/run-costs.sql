-- What did each run of the last month cost, in device seconds?
--
-- With what was lost to attempts that came to nothing. Multiply by the price of a device second.
select run_date, kind, state, model, model_version, images, workers,
       round(device_seconds::numeric, 1) as device_seconds,
       round(device_seconds_lost::numeric, 1) as lost,
       round(images_per_device_second::numeric, 1) as images_per_device_second,
       round(worked_seconds::numeric, 1) as worked_seconds, job_id
from analytics.run_costs
where finished_at >= now() - interval '30 days'
order by finished_at desc;
