//! Which keys a folder can hold.

use s3s::{S3Result, s3_error};

/// The longest file name that Linux allows, in bytes.
const FILE_NAME: usize = 255;
/// What s3s-fs puts around bucket and key, both in base64, to name the files that describe an object.
pub(crate) const OBJECT: &str = ".bucket-.object-.internal.json";
/// The same for an upload in parts.
pub(crate) const UPLOAD: &str = ".bucket-.object-.upload-00000000-0000-0000-0000-000000000000.metadata.json";

/// Refuses a key that would be kept under another name, or that s3s-fs has no file name for: `around` is [`OBJECT`] or
/// [`UPLOAD`].
pub(crate) fn check(bucket: &str, key: &str, around: &str) -> S3Result<()> {
    let most = (FILE_NAME - around.len() - base64(bucket.len())) / 4 * 3;
    if key.len() > most {
        return Err(s3_error!(
            KeyTooLongError,
            "this store takes keys of up to {most} bytes, and '{key}' has {}",
            key.len()
        ));
    }
    if key.chars().any(char::is_control) {
        return Err(s3_error!(InvalidArgument, "this store takes no control characters in keys, as in {key:?}"));
    }
    if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(s3_error!(InvalidArgument, "this store takes no empty, '.' or '..' parts in keys, as in '{key}'"));
    }
    Ok(())
}

/// The length of base64 without padding, or little more.
fn base64(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use s3s::S3ErrorCode;

    use super::*;

    #[test]
    fn keys_that_would_be_kept_under_another_name_are_refused() {
        for key in ["", "/a", "a/", "a//b", "./a", "a/../b", "..", "a\nb", "a\u{1}"] {
            let error = check("cars", key, OBJECT).unwrap_err();
            assert_eq!(*error.code(), S3ErrorCode::InvalidArgument, "{key:?}");
        }
        for key in ["a", "a/b", ".hidden", "a..b/c.", "sp ace", "é", "100%"] {
            check("cars", key, OBJECT).unwrap();
        }
    }

    #[test]
    fn the_longest_key_fits_a_file_name() {
        for (around, longest) in [(OBJECT, 162), (UPLOAD, 129)] {
            check("perito", &"k".repeat(longest), around).unwrap();
            assert!(around.len() + base64("perito".len()) + base64(longest) <= FILE_NAME);
            let error = check("perito", &"k".repeat(longest + 1), around).unwrap_err();
            assert_eq!(*error.code(), S3ErrorCode::KeyTooLongError);
            assert!(error.message().unwrap().contains(&longest.to_string()));
        }
    }
}
