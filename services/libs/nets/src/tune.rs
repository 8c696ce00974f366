//! How many images to run through a network at once: measured, since it depends on the network, the processor and its caches.

use std::time::Duration;

use crate::error::Result;

/// What a larger batch must save of the time per image to be worth its memory.
const WORTH: f64 = 0.02;

/// The size, of `sizes` in rising order, with the least time per image. `measure` gives the time of one batch. Larger ones are not
/// tried once `budget` is spent, or after a size that is slower by a tenth than the best.
pub(crate) fn best_batch_size(
    sizes: &[usize],
    budget: Duration,
    mut measure: impl FnMut(usize) -> Result<Duration>,
) -> Result<usize> {
    let mut best: Option<(usize, f64)> = None;
    let mut spent = Duration::ZERO;
    for &size in sizes {
        if best.is_some() && spent >= budget {
            break;
        }
        // The first run of a size allocates and chooses algorithms.
        let first = measure(size)?;
        let second = measure(size)?;
        spent += first + second;
        let per_image = first.min(second).as_secs_f64() / size as f64;
        match best {
            Some((_, least)) if per_image > least * 1.1 => break,
            Some((_, least)) if per_image > least * (1.0 - WORTH) => {}
            _ => best = Some((size, per_image)),
        }
    }
    Ok(best.map_or(1, |(size, _)| size))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_the_fast_ones_is_taken_and_the_budget_kept() {
        let chosen = |milliseconds: [u64; 4], budget| {
            let mut asked = Vec::new();
            let times = [4, 8, 16, 32].into_iter().zip(milliseconds);
            let size = best_batch_size(&[4, 8, 16, 32], Duration::from_millis(budget), |size| {
                asked.push(size);
                Ok(Duration::from_millis(times.clone().find(|(of, _)| *of == size).unwrap().1))
            });
            asked.dedup();
            (size.unwrap(), asked)
        };
        assert_eq!(chosen([400, 600, 1000, 1990], 10_000), (16, vec![4, 8, 16, 32]), "32 is no faster");
        assert_eq!(chosen([400, 600, 1000, 1500], 10_000), (32, vec![4, 8, 16, 32]));
        assert_eq!(chosen([400, 1000, 100, 100], 10_000), (4, vec![4, 8]), "no further after a worse one");
        assert_eq!(chosen([400, 600, 1000, 1500], 1500), (8, vec![4, 8]), "no further than the budget");
    }
}
