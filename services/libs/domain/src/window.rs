//! Which tasks hold the places in the broker. Only a window of each kind is there at once, in the order in which it was sent: what is
//! more urgent than a task that waits there must not queue behind it.

/// What a round of dispatching does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round<T> {
    /// The tasks to send, the most urgent first.
    pub send: Vec<T>,
    /// Tasks to take back before that: they are sent again behind these, in a later round.
    pub recall: Vec<T>,
}

/// Decides a round. `dispatched` are the tasks that were sent and that no worker has, with their job's priority; `candidates` are
/// runnable, the most urgent first.
///
/// Among equals nobody gives way, so that nothing moves back and forth.
pub fn round<T: Copy>(window: usize, dispatched: &[(T, i16)], candidates: &[(T, i16)]) -> Round<T> {
    let urgent = candidates.first().map_or(i16::MIN, |candidate| candidate.1);
    let (stay, give_way): (Vec<_>, Vec<_>) = dispatched.iter().partition(|task| task.1 >= urgent);
    let free = window.saturating_sub(stay.len());
    let ids = |tasks: Vec<&(T, i16)>| tasks.into_iter().map(|task| task.0).collect::<Vec<T>>();
    if free == 0 || give_way.is_empty() {
        return Round { send: ids(candidates.iter().take(free).collect()), recall: Vec::new() };
    }
    let first = candidates.iter().take_while(|candidate| candidate.1 == urgent).take(free);
    Round { send: ids(first.collect()), recall: ids(give_way) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_places_are_filled_in_order() {
        let decided = round(3, &[("a", 9)], &[("b", 4), ("c", 0), ("d", 0)]);
        assert_eq!(decided, Round { send: vec!["b", "c"], recall: vec![] });
        assert_eq!(round(3, &[], &[("b", 4)]).send, ["b"]);
        assert_eq!(round(3, &[("a", 0)], &[]), Round { send: vec![], recall: vec![] });
    }

    #[test]
    fn the_less_urgent_give_way_and_equals_do_not() {
        let dispatched = [("old", 2), ("peer", 4), ("urgent", 9), ("older", 2)];
        let decided = round(5, &dispatched, &[("x", 4), ("y", 4), ("z", 3)]);
        assert_eq!(decided, Round { send: vec!["x", "y"], recall: vec!["old", "older"] });
        let many = [("x", 9), ("y", 9), ("z", 9), ("w", 9), ("v", 9)];
        assert_eq!(round(4, &dispatched, &many).send, ["x", "y", "z"], "the window stays");
        assert_eq!(round(4, &dispatched, &[("x", 2)]), Round { send: vec![], recall: vec![] });
    }

    #[test]
    fn nobody_gives_way_when_that_makes_no_room() {
        let decided = round(1, &[("a", 4), ("b", 9)], &[("c", 9)]);
        assert_eq!(decided, Round { send: vec![], recall: vec![] });
    }
}
