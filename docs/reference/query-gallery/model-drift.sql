-- Do the scores of a model drift, week by week?
--
-- The population stability index (PSI) of a week's probabilities of severe damage against the model's first week and against the week
-- before: the sum over 20 bins of (p - q) * ln(p / q). A common reading: below 0.1 stable, to 0.25 look, above that something changed.
-- Half a photograph is added to each bin, so that an empty one counts little and is no division by zero.
with weeks as (
    select distinct model, model_version, date_trunc('week', run_date)::date as week from analytics.score_histogram
), bins as (
    select w.model, w.model_version, w.week, b.bin, coalesce(sum(h.images), 0) + 0.5 as images
    from weeks w
    cross join generate_series(0, 19) as b(bin)
    left join analytics.score_histogram h
           on h.model = w.model and h.model_version = w.model_version and h.severity = 'severe' and h.bin = b.bin
          and h.run_date >= w.week and h.run_date < w.week + 7
    group by w.model, w.model_version, w.week, b.bin
), shares as (
    select model, model_version, week, bin, images,
           (images / sum(images) over (partition by model, model_version, week))::double precision as share
    from bins
), compared as (
    select model, model_version, week, images, share,
           first_value(share) over by_week as first_share,
           lag(share) over by_week as share_before
    from shares
    window by_week as (partition by model, model_version, bin order by week)
)
select model, model_version, week,
       round(sum(images) - 10) as images,
       round(sum((share - first_share) * ln(share / first_share))::numeric, 4) as psi_to_first_week,
       round(sum((share - share_before) * ln(share / share_before))::numeric, 4) as psi_to_week_before
from compared
group by model, model_version, week
order by model, model_version, week;
