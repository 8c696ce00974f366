//! Tokens.

use chrono::Utc;
use comfy_table::Cell;

use super::{optional, table, time};
use crate::api::tokens::Token;

/// The tokens.
pub fn tokens(tokens: &[Token]) -> String {
    if tokens.is_empty() {
        return "no tokens".to_owned();
    }
    let mut table = table(&["name", "role", "state", "id", "made (UTC)", "by", "expires (UTC)", "last used (UTC)"]);
    for token in tokens {
        table.add_row(vec![
            Cell::new(&token.name),
            Cell::new(token.role),
            Cell::new(state(token)),
            Cell::new(&token.id),
            Cell::new(time(token.created_at)),
            Cell::new(&token.created_by),
            Cell::new(optional(token.expires_at.map(time))),
            Cell::new(optional(token.last_used_at.map(time))),
        ]);
    }
    table.to_string()
}

fn state(token: &Token) -> &'static str {
    match token {
        Token { revoked_at: Some(_), .. } => "revoked",
        Token { expires_at: Some(end), .. } if *end <= Utc::now() => "expired",
        _ => "in force",
    }
}
