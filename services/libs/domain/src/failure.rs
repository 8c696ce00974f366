//! Why one image could not be scored. Such an image becomes a row in `image_failures`; its task goes on.

use crate::text_enum::text_enum;

text_enum! {
    /// The reasons, as stored in `image_failures.reason`.
    FailureReason ("failure reason") {
        /// No object has this key any more.
        Missing = "missing",
        /// The object's ETag is not the one that was registered.
        Changed = "changed",
        /// The object has no bytes.
        Empty = "empty",
        /// The object has more bytes than the limit.
        TooLarge = "too_large",
        /// The header announces more pixels than the limit; nothing was decoded.
        TooManyPixels = "too_many_pixels",
        /// The bytes are not an image of a supported format.
        Unsupported = "unsupported",
        /// The image is truncated or broken.
        Corrupt = "corrupt",
        /// Every worker that had it alone died, as of an abort in a decoder or for want of memory.
        CrashedWorker = "crashed_worker",
    }
}

/// One image's failure, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFailure {
    /// The image's id in the catalogue.
    pub image_id: i64,
    /// The class of the failure.
    pub reason: FailureReason,
    /// What exactly was found, for a person.
    pub detail: String,
}
