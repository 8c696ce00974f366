//! The checked form of a task message.

use perito_proto::v1;
use uuid::Uuid;

use crate::lifecycle::JobKind;

/// The schema version that this build writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// A hint that a task may be runnable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskMessage {
    /// The task's job.
    pub job_id: Uuid,
    /// The task to look up and claim.
    pub task_id: Uuid,
    /// The kind of job, and so the queue.
    pub kind: JobKind,
    /// The attempt that comes next: a message with another one was overtaken by what happened to the task since, and starts nothing.
    pub attempt_hint: u32,
    /// W3C `traceparent` of the request that submitted the job; empty when there was none.
    pub traceparent: String,
}

/// A message that this build must not act on. It belongs in the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Written by a newer (or much older) release.
    #[error("unknown schema version {0}: this build reads version {SCHEMA_VERSION}")]
    UnknownVersion(u32),
    /// An id that is not 16 bytes.
    #[error("{field} has {bytes} bytes, expected 16")]
    BadId {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A kind that this build does not know.
    #[error("unknown kind of task {0}")]
    UnknownKind(i32),
}

impl TryFrom<v1::TaskMessage> for TaskMessage {
    type Error = MessageError;

    fn try_from(wire: v1::TaskMessage) -> Result<Self, Self::Error> {
        if wire.schema_version != SCHEMA_VERSION {
            return Err(MessageError::UnknownVersion(wire.schema_version));
        }
        let kind = match wire.kind() {
            v1::TaskKind::Train => JobKind::Train,
            v1::TaskKind::Score => JobKind::Score,
            v1::TaskKind::Evaluate => JobKind::Evaluate,
            v1::TaskKind::Sweep => JobKind::Sweep,
            v1::TaskKind::Unspecified => return Err(MessageError::UnknownKind(wire.kind)),
        };
        Ok(Self {
            job_id: id("job_id", &wire.job_id)?,
            task_id: id("task_id", &wire.task_id)?,
            kind,
            attempt_hint: wire.attempt_hint,
            traceparent: wire.traceparent,
        })
    }
}

impl From<TaskMessage> for v1::TaskMessage {
    fn from(message: TaskMessage) -> Self {
        let kind = match message.kind {
            JobKind::Train => v1::TaskKind::Train,
            JobKind::Score => v1::TaskKind::Score,
            JobKind::Evaluate => v1::TaskKind::Evaluate,
            JobKind::Sweep => v1::TaskKind::Sweep,
        };
        Self {
            schema_version: SCHEMA_VERSION,
            job_id: message.job_id.as_bytes().to_vec(),
            task_id: message.task_id.as_bytes().to_vec(),
            kind: kind.into(),
            attempt_hint: message.attempt_hint,
            traceparent: message.traceparent,
        }
    }
}

fn id(field: &'static str, bytes: &[u8]) -> Result<Uuid, MessageError> {
    Uuid::from_slice(bytes).map_err(|_| MessageError::BadId { field, bytes: bytes.len() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message() -> TaskMessage {
        TaskMessage {
            job_id: Uuid::now_v7(),
            task_id: Uuid::now_v7(),
            kind: JobKind::Score,
            attempt_hint: 2,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        }
    }

    #[test]
    fn survives_a_round_trip() {
        let message = message();
        assert_eq!(TaskMessage::try_from(v1::TaskMessage::from(message.clone())).unwrap(), message);
    }

    #[test]
    fn strangers_are_refused() {
        let good = v1::TaskMessage::from(message());
        let newer = v1::TaskMessage { schema_version: 2, ..good.clone() };
        assert_eq!(TaskMessage::try_from(newer), Err(MessageError::UnknownVersion(2)));
        let short = v1::TaskMessage { task_id: vec![1, 2, 3], ..good.clone() };
        assert_eq!(TaskMessage::try_from(short), Err(MessageError::BadId { field: "task_id", bytes: 3 }));
        for kind in [0, 99] {
            let odd = v1::TaskMessage { kind, ..good.clone() };
            assert_eq!(TaskMessage::try_from(odd), Err(MessageError::UnknownKind(kind)));
        }
    }
}
