//! Who may do what through the API: roles, and the tokens that carry them.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::text_enum::text_enum;

text_enum! {
    /// What the holder of a token may do. Each role may do what the ones before it may.
    Role ("role") {
        /// Reads.
        Viewer = "viewer",
        /// Submits and steers jobs, feeds the catalogue, keeps schedules.
        Operator = "operator",
        /// Decides what production runs on, changes settings, deletes, and gives others access.
        Admin = "admin",
    }
}

const PREFIX: &str = "perito_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A token of the API: `perito_ID_SECRET`, both in hexadecimal. The id is public and finds the token's row; of the rest only a
/// digest is ever stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: [u8; SECRET_BYTES],
}

/// Text that is no token. It does not repeat the text, which may be a token but for one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a token of Perito: expected perito_ followed by 16 and 64 hexadecimal digits, as `perito token create` prints it"
)]
pub struct NotAToken;

/// SHA-256 of a token.
///
/// A plain hash suffices where a password would need a slow, salted one: 256 random bits cannot be guessed, however fast the hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl Token {
    /// A token of bytes from the system's random numbers.
    pub fn from_random(id: [u8; ID_BYTES], secret: [u8; SECRET_BYTES]) -> Self {
        Self { id: hex(&id), secret }
    }

    /// The public part.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token, to be shown once to whoever is to have it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, hex(&self.secret))
    }

    /// What is stored of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::new().chain_update(&self.id).chain_update(self.secret).finalize().into())
    }
}

impl TokenDigest {
    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether these are the bytes of this digest, in a time that does not tell where they differ.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.0.as_slice().ct_eq(stored).into()
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(NotAToken)?;
        let id = bytes::<ID_BYTES>(id).ok_or(NotAToken)?;
        Ok(Self::from_random(id, bytes(secret).ok_or(NotAToken)?))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_***", self.id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() != 2 * N || !hex.bytes().all(digits) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_text() {
        let token = Token::from_random([0xab; 8], [7; 32]);
        let text = token.expose();
        assert_eq!(text, format!("perito_{}_{}", "ab".repeat(8), "07".repeat(32)));
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert_eq!(format!("{token:?}"), format!("perito_{}_***", "ab".repeat(8)));
    }

    #[test]
    fn the_digest_tells_tokens_apart() {
        let digest = Token::from_random([1; 8], [7; 32]).digest();
        assert!(digest.matches(digest.as_bytes()));
        for (id, secret) in [([1; 8], [8; 32]), ([2; 8], [7; 32])] {
            assert!(!digest.matches(Token::from_random(id, secret).digest().as_bytes()));
        }
        assert!(!digest.matches(&[]) && !digest.matches(&digest.as_bytes()[1..]));
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let whole = Token::from_random([1; 8], [2; 32]).expose();
        let upper = whole.to_uppercase();
        for wrong in
            ["", "perito_", "hunter2", &whole[..whole.len() - 1], &upper, &format!("{whole}0"), &format!(" {whole}")]
        {
            let refused = wrong.parse::<Token>().unwrap_err().to_string();
            assert!(!refused.contains("hunter2") && refused.contains("perito token create"), "{refused}");
        }
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
