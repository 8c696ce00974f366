//! How much is taken of what comes from outside: one place, which `docs/reference/limits.md` is made of.
//!
//! What is larger is refused with an error that names the limit, before memory is taken for it, unless the limit's own line says otherwise.

/// A limit, as the reference shows it.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The group that it belongs to.
    pub group: &'static str,
    /// The constant's name.
    pub name: &'static str,
    /// The most that is taken.
    pub most: u64,
    /// What it counts.
    pub unit: &'static str,
    /// What it bounds, in Markdown.
    pub what: &'static str,
}

/// Constants, and the list of them.
macro_rules! limits {
    ($($group:literal { $(#[doc = $what:literal] $name:ident: $type:ty = $most:expr, $unit:literal;)+ })+) => {
        $($(#[doc = $what] pub const $name: $type = $most;)+)+

        /// All of them, in the reference's order.
        pub const ALL: &[Limit] = &[
            $($(Limit { group: $group, name: stringify!($name), most: $name as u64, unit: $unit, what: $what.trim_ascii() },)+)+
        ];
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

limits! {
    "Photographs" {
        /// A photograph that is read. `--max-image-mib` of the worker sets another
        MAX_IMAGE_BYTES: u64 = 64 * MIB, "bytes";
        /// A picture that is decoded, as its header announces it. `--max-image-megapixels` of the worker sets another
        MAX_IMAGE_PIXELS: u64 = 100_000_000, "pixels";
        /// A file that `perito` uploads as a photograph
        MAX_UPLOAD_BYTES: u64 = 256 * MIB, "bytes";
        /// A bucket's name (S3's own limit)
        MAX_BUCKET_BYTES: usize = 63, "bytes";
        /// An object's key (S3's own limit)
        MAX_KEY_BYTES: usize = 1024, "bytes";
        /// An object's ETag
        MAX_ETAG_BYTES: usize = 128, "bytes";
        /// A claim's id
        MAX_CLAIM_ID_BYTES: usize = 128, "bytes";
        /// The pattern that finds claims in keys
        MAX_CLAIM_PATTERN_BYTES: usize = 512, "bytes";
        /// The same pattern, compiled
        MAX_COMPILED_PATTERN_BYTES: usize = MIB as usize, "bytes";
    }
    "Jobs and schedules" {
        /// The name of a model, a dataset, an alias or a schedule
        MAX_NAME_BYTES: usize = 64, "bytes";
        /// A task of a scoring job
        MAX_SHARD_SIZE: u32 = 10_000, "images";
        /// A sweep
        MAX_RUNS: usize = 1000, "training runs";
        /// A job's own limit of tasks at once
        MAX_CONCURRENCY: u32 = 10_000, "tasks";
        /// A job's priority
        MAX_PRIORITY: u8 = 9, "";
        /// Schedules
        MAX_SCHEDULES: i64 = 1000, "schedules";
        /// A schedule's jitter
        MAX_JITTER_SECONDS: u32 = 3600, "seconds";
        /// A schedule's catch-up window
        MAX_CATCH_UP_SECONDS: u32 = 31 * 24 * 3600, "seconds";
        /// One backfill
        MAX_BACKFILL: usize = 366, "fire times";
    }
    "The API" {
        /// A request's body. A full batch of images with the longest keys fits
        MAX_BODY_BYTES: usize = 16 * MIB as usize, "bytes";
        /// Images, dataset items or labels in one request
        MAX_BATCH: usize = 10_000, "rows";
        /// A page of a listing
        MAX_PAGE: u16 = 500, "rows";
        /// A page when none is asked for
        DEFAULT_PAGE: u16 = 50, "rows";
        /// An `Idempotency-Key`
        MAX_IDEMPOTENCY_KEY_BYTES: usize = 128, "bytes";
    }
    "Files" {
        /// A line of JSON Lines, or a row of CSV: beyond it a quote or a line's end is missing
        MAX_ROW_BYTES: u64 = MIB, "bytes";
        /// A file of labels
        MAX_LABEL_ROWS: usize = 5_000_000, "rows";
        /// A model's weights in the registry, and what an archive of `torch.save` may unpack to: a few bytes of a file can claim terabytes
        MAX_ARTIFACT_BYTES: u64 = 2 * GIB, "bytes";
        /// The pickle in an archive of `torch.save`, which holds names and shapes
        MAX_PICKLE_BYTES: u64 = 16 * MIB, "bytes";
        /// A checkpoint's tensors
        MAX_CHECKPOINT_BYTES: u64 = 4 * GIB, "bytes";
        /// A checkpoint's marker, which holds the measurements so far
        MAX_MARKER_BYTES: u64 = GIB, "bytes";
        /// An archive from Kaggle
        MAX_ARCHIVE_BYTES: u64 = 256 * GIB, "bytes";
        /// Files and folders in it
        MAX_ARCHIVE_ENTRIES: usize = 2_000_000, "entries";
        /// What it may unpack to
        MAX_UNPACKED_BYTES: u64 = 512 * GIB, "bytes";
        /// How many times its own size it may unpack to. Photographs hardly shrink
        MAX_UNPACKED_RATIO: u64 = 100, "times";
    }
    "Messages" {
        /// An event of the object store. Far above the largest that a store sends
        MAX_EVENT_BYTES: usize = MIB as usize, "bytes";
        /// An event's sequencer. Real ones have about twenty
        MAX_SEQUENCER_DIGITS: usize = 64, "digits";
        /// An object's version id (S3's own limit)
        MAX_VERSION_ID_BYTES: usize = 1024, "bytes";
        /// Events that wait. Beyond them the store is refused, and keeps its events or says so: they are the only copy of their news
        MAX_STORE_EVENTS: i64 = 1_000_000, "messages";
        /// Dead letters of a queue. Beyond them the oldest go
        MAX_DEAD_LETTERS: i64 = 100_000, "messages";
        /// Dead letters that are looked through for one of them, or listed
        MAX_LOOKED_THROUGH: usize = 10_000, "messages";
        /// The namespace of the broker's names (AMQP's own limit is 255)
        MAX_NAMESPACE_BYTES: usize = 128, "bytes";
    }
}

impl std::fmt::Display for Limit {
    /// What is taken at most, in the unit that reads best: `64 MiB`, `5,000,000 rows`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let larger = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        let fitting = larger.into_iter().find(|(size, _)| self.unit == "bytes" && self.most.is_multiple_of(*size));
        if let Some((size, unit)) = fitting {
            return write!(f, "{} {unit}", self.most / size);
        }
        let digits = self.most.to_string();
        for (index, digit) in digits.chars().enumerate() {
            let separator = if index > 0 && (digits.len() - index).is_multiple_of(3) { "," } else { "" };
            write!(f, "{separator}{digit}")?;
        }
        if self.unit.is_empty() { Ok(()) } else { write!(f, " {}", self.unit) }
    }
}
