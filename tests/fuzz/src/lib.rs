//! What comes from strangers, one function for each way in: it takes any bytes, says whether they were taken, and panics when one of
//! the promises that it states is broken. `make fuzz` lets libFuzzer look for such bytes; the tests go through the seeds and small changes of them.
//!
//! To add a way in: a function here, a file in `fuzz_targets/` and its `[[bin]]`, seeds in a folder of the same name below
//! `seeds/`, a line in [`ALL`].
// A broken promise is told by a panic, which is what a fuzzer looks for.
#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, io::Cursor, io::Write as _};

use perito_cli::{manifest::ManifestRow, specification::Specification, weights};
use perito_coordinator::store_events::{message, watched::Watched};
use perito_domain::{
    claims::ClaimRule,
    message::TaskMessage,
    preprocessing::{self, Preprocessing},
    schedule::ScheduleSpec,
    spec::{Architecture, JobSpec},
};
use perito_nets::{Device, DeviceRequest, Engine, Topology, Trainer};
use perito_proto::v1;
use perito_tables::{Format, ReadOptions, Reader};
use perito_vision::{Limits, Scale, decode, preprocess};
use prost::Message as _;
use serde_json::Value;
use tempfile::NamedTempFile;

/// A way in: its name, and what is done with the bytes.
pub type Entrance = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const ALL: [Entrance; 9] = [
    ("image", image),
    ("message", message),
    ("event", event),
    ("spec", spec),
    ("csv", csv),
    ("json_lines", json_lines),
    ("parquet", parquet),
    ("weights", weights),
    ("checkpoint", checkpoint),
];

/// libFuzzer takes every panic for a finding. Libraries that decode panic at some damage, and the code around them is there to catch it: with
/// this only those are found that nobody catches.
pub fn let_code_catch_panics() {
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
}

/// Photographs: no decoder takes more pixels than allowed, one at a reduced scale is still large enough, and each contract gives a square.
pub fn image(bytes: &[u8]) -> bool {
    const SIDE: u32 = 32;
    let limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 };
    let full = decode(bytes, Scale::Full, &limits);
    let reduced = decode(bytes, Scale::ReducedFor(SIDE), &limits);
    for picture in [&full, &reduced].into_iter().flatten() {
        let (width, height) = picture.dimensions();
        assert!(u64::from(width) * u64::from(height) <= limits.max_pixels, "{width} x {height} pixels");
    }
    if let (Ok(full), Ok(reduced)) = (&full, &reduced) {
        let (full, reduced) = (full.dimensions(), reduced.dimensions());
        let large_enough = reduced == full || (reduced.0 >= 2 * SIDE && reduced.1 >= 2 * SIDE);
        assert!(large_enough && reduced.0 <= full.0 && reduced.1 <= full.1, "{reduced:?} of {full:?}");
    }
    for version in preprocessing::EXACT..=preprocessing::NEWEST {
        let contract = Preprocessing { version, ..Preprocessing::imagenet(SIDE) };
        if let Ok(pixels) = preprocess(bytes, &contract, &limits) {
            assert_eq!(pixels.side(), SIDE, "by version {version}");
        }
    }
    full.is_ok()
}

/// Messages of the broker: what is taken says the same when it is written again.
pub fn message(bytes: &[u8]) -> bool {
    let Ok(wire) = v1::TaskMessage::decode(bytes) else { return false };
    let Ok(message) = TaskMessage::try_from(wire) else { return false };
    let again = v1::TaskMessage::from(message.clone()).encode_to_vec();
    assert_eq!(TaskMessage::try_from(v1::TaskMessage::decode(&*again).unwrap()).unwrap(), message);
    true
}

/// Events of an object store: each says something, or why it does not.
pub fn event(bytes: &[u8]) -> bool {
    let watched: Watched = "claims/in/".parse().unwrap();
    let parsed = message::parse(bytes, &[watched], &ClaimRule::ParentFolder);
    assert!(!parsed.events.is_empty() || parsed.passed_over > 0 || parsed.refused.is_some() || has_no_records(bytes));
    !parsed.events.is_empty()
}

fn has_no_records(bytes: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    value["Records"].as_array().is_some_and(Vec::is_empty)
}

/// Specifications of jobs and schedules, in JSON and TOML: one that is taken is stored, and must read back the same.
pub fn spec(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(given) = Specification::from_any_text(text) else { return false };
    let _refused_or_not = given.checked();
    let Ok(value) = serde_json::from_str::<Value>(text) else { return false };
    let job = JobSpec::parse(value.clone()).inspect(|spec| {
        assert_eq!(JobSpec::parse(again(&serde_json::to_value(spec).unwrap())).as_ref(), Ok(spec));
    });
    let schedule = ScheduleSpec::parse(value).inspect(|spec| {
        assert_eq!(ScheduleSpec::parse(again(&spec.to_value().unwrap())).as_ref(), Ok(spec));
    });
    job.is_ok() || schedule.is_ok()
}

/// As the database stores it.
fn again(stored: &Value) -> Value {
    serde_json::from_str(&stored.to_string()).unwrap()
}

/// Manifests in CSV.
pub fn csv(bytes: &[u8]) -> bool {
    let stream = Box::new(Cursor::new(bytes.to_vec()));
    rows(Reader::from_stream("fuzz", stream, Format::Csv, &ReadOptions::default()), bytes.len())
}

/// Manifests in JSON Lines.
pub fn json_lines(bytes: &[u8]) -> bool {
    let stream = Box::new(Cursor::new(bytes.to_vec()));
    rows(Reader::from_stream("fuzz", stream, Format::JsonLines, &ReadOptions::default()), bytes.len())
}

/// Manifests in Parquet, whose encodings let a few bytes stand for many equal rows.
pub fn parquet(bytes: &[u8]) -> bool {
    rows(
        Reader::open(file(bytes).path(), &ReadOptions { format: Some(Format::Parquet), columns: None }),
        usize::MAX - 1,
    )
}

/// No more rows than there can be, and nothing follows the end.
fn rows(reader: perito_tables::Result<Reader<ManifestRow>>, most: usize) -> bool {
    let Ok(mut reader) = reader else { return false };
    let taken =
        reader.by_ref().take(most + 1).fold((0, 0), |(all, good), row| (all + 1, good + usize::from(row.is_ok())));
    assert!(taken.0 <= most, "more than {most} rows");
    assert!(reader.next().is_none());
    taken.1 > 0
}

/// Weight files, of `torch.save` or safetensors: what the operator's tool takes has every tensor of the network, so the worker
/// takes it too.
pub fn weights(bytes: &[u8]) -> bool {
    let _text_or_not = perito_nets::describe(bytes);
    let (architecture, image_size) = (Architecture::Cnn4, 32);
    let Ok(weights) = weights::load(file(bytes).path(), architecture, image_size, &[]) else { return false };
    let topology = Topology { architecture, image_size, dropout: 0.0 };
    let loaded = Engine::load(&topology, &Preprocessing::imagenet(image_size), &weights.bytes, cpu());
    assert!(loaded.is_ok() || weights.why_not_scoring().is_some());
    true
}

/// Checkpoints of training runs: one that is refused leaves the trainer as it was.
pub fn checkpoint(bytes: &[u8]) -> bool {
    thread_local! {
        static TRAINER: RefCell<(Trainer, Vec<u8>)> = RefCell::new({
            let trainer = trainer();
            let state = trainer.checkpoint().unwrap();
            (trainer, state)
        });
    }
    TRAINER.with_borrow_mut(|(trainer, state)| {
        let taken = trainer.restore(bytes).is_ok();
        if taken {
            trainer.restore(state).unwrap();
        }
        assert!(trainer.checkpoint().unwrap() == *state);
        taken
    })
}

fn trainer() -> Trainer {
    let spec =
        serde_json::json!({"kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4", "image_size": 32});
    let JobSpec::Train(spec) = JobSpec::parse(spec).unwrap() else { unreachable!("it says train") };
    Trainer::new(&spec, &Preprocessing::imagenet(32), [1; 3], None, cpu()).unwrap()
}

fn cpu() -> Device {
    DeviceRequest::Cpu.resolve().unwrap()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}
