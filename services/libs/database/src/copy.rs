//! Predictions by binary COPY: PostgreSQL documentation, "COPY", section "Binary Format".

use chrono::NaiveDate;
use perito_domain::Severity;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Prediction,
    error::{During, Error, ErrorKind, Result},
};

/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Postgres counts days from here.
const EPOCH: NaiveDate = match NaiveDate::from_ymd_opt(2000, 1, 1) {
    Some(day) => day,
    None => unreachable!(),
};

/// Predictions of a job's run on a day.
pub(crate) type Rows<'a> = (Uuid, NaiveDate, &'a [Prediction]);

/// Copies predictions into the partitions of their days.
#[tracing::instrument(name = "copy", skip_all, fields(otel.kind = "client", rows))]
pub(crate) async fn predictions(connection: &mut PgConnection, parts: &[Rows<'_>]) -> Result<()> {
    let rows: usize = parts.iter().map(|(_, _, rows)| rows.len()).sum();
    if rows == 0 {
        return Ok(());
    }
    tracing::Span::current().record("rows", rows);
    let mut copy = connection
        .copy_in_raw(
            "copy predictions (job_id, image_id, run_date, severity, p_minor, p_moderate, p_severe) from stdin (format binary)",
        )
        .await
        .during("begin the copy")?;
    let mut buffer = Vec::with_capacity(CHUNK_BYTES + 128);
    // Signature, flags, length of the header's extension.
    buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for (job_id, run_date, rows) in parts {
        let day = i32::try_from((*run_date - EPOCH).num_days())
            .map_err(|_| Error::new(ErrorKind::Invalid, format!("run date {run_date} is out of range")))?;
        for row in *rows {
            buffer.extend_from_slice(&7_i16.to_be_bytes());
            field(&mut buffer, job_id.as_bytes());
            field(&mut buffer, &row.image_id.to_be_bytes());
            field(&mut buffer, &day.to_be_bytes());
            // An enum travels as its label.
            field(&mut buffer, Severity::most_likely(&row.probabilities).as_str().as_bytes());
            for probability in row.probabilities {
                field(&mut buffer, &probability.to_be_bytes());
            }
            if buffer.len() >= CHUNK_BYTES {
                copy.send(std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK_BYTES + 128)))
                    .await
                    .during("copy predictions")?;
            }
        }
    }
    buffer.extend_from_slice(&(-1_i16).to_be_bytes());
    copy.send(buffer).await.during("copy predictions")?;
    let copied = copy.finish().await.during("end the copy")?;
    if copied == rows as u64 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, format!("copied {copied} of {rows} predictions")))
}

fn field(buffer: &mut Vec<u8>, bytes: &[u8]) {
    // Fields here are at most 16 bytes long.
    buffer.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    buffer.extend_from_slice(bytes);
}
