//! Where an alias has pointed, and its way back.

use crate::text_enum::text_enum;

text_enum! {
    /// Why an alias moved.
    AliasAction ("action") {
        /// It was pointed to a version.
        Promote = "promote",
        /// It went back to the version that it pointed to before the last promotion.
        Rollback = "rollback",
    }
}

/// The version that a rollback leads to: the one that held the alias before the last promotion that has not been rolled back. `moves` are
/// all moves of one alias in their order, each with the version it led to.
///
/// A second rollback goes one promotion further back, rather than forth again to what was just left.
pub fn former_holder(moves: &[(AliasAction, i32)]) -> Option<i32> {
    let mut holders = Vec::new();
    for (action, version) in moves {
        match action {
            AliasAction::Promote => holders.push(*version),
            AliasAction::Rollback => {
                holders.pop();
            }
        }
    }
    holders.pop();
    holders.pop()
}

#[cfg(test)]
mod tests {
    use super::{
        AliasAction::{Promote, Rollback},
        former_holder,
    };

    #[test]
    fn rollbacks_go_back_one_promotion_at_a_time() {
        assert_eq!(former_holder(&[]), None);
        assert_eq!(former_holder(&[(Promote, 1)]), None);
        assert_eq!(former_holder(&[(Promote, 1), (Promote, 2), (Promote, 5)]), Some(2));
        let back = [(Promote, 1), (Promote, 2), (Promote, 5), (Rollback, 2)];
        assert_eq!(former_holder(&back), Some(1));
        let on = [(Promote, 1), (Promote, 2), (Rollback, 1), (Promote, 3)];
        assert_eq!(former_holder(&on), Some(1), "the one that was rolled back is not come back to");
        assert_eq!(former_holder(&[(Promote, 1), (Promote, 2), (Rollback, 1)]), None);
    }
}
