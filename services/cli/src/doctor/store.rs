//! The object store.

use std::time::SystemTime;

use perito_objects::ErrorKind;
use perito_runtime::ObjectStoreArgs;
use uuid::Uuid;

use super::{Finding, Report};

/// Asks the store.
pub async fn examine(args: &ObjectStoreArgs) -> Vec<Finding> {
    let mut report = Report::new("s3");
    let (bucket, place) = (&args.s3_bucket, args.s3_endpoint.as_ref().map_or("AWS", |url| url.as_str()));
    let objects = match crate::store::connect(args) {
        Ok(objects) => objects,
        // Without keys there is nobody to ask as.
        Err(error) => return report.skip(format!("{error:#}"), "set them as the services have them to look here too"),
    };
    match objects.ping(bucket).await {
        Ok(()) => report.ok("reach", format!("{place}, bucket {bucket}")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let remedy = "start a coordinator or worker: they make it if they may; or make it, or set PERITO_S3_BUCKET";
            report.fault("reach", format!("{place} has no bucket {bucket}"), remedy);
            return report.findings;
        }
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::Denied => {
                    "give this access key the right to the bucket, and compare the secret and the clocks"
                }
                _ => "see that the store runs, that this machine may connect, and that PERITO_S3_ENDPOINT is right",
            };
            report.fault("reach", error.to_string(), remedy);
            return report.findings;
        }
    }
    let asked = SystemTime::now();
    match objects.rehearse(bucket, &format!("doctor/{}", Uuid::new_v4())).await {
        Ok(clock) => {
            report.ok("rights", "objects can be written, read, listed and removed");
            if let Some(clock) = clock {
                // Stores tell when an object was written to the second.
                report.clock(clock.into(), asked, SystemTime::now(), 1.0);
            }
        }
        Err(error) => report.fault(
            "rights",
            error.to_string(),
            "allow s3:PutObject, GetObject, DeleteObject and ListBucket on the bucket, and see that its disk is not full",
        ),
    }
    report.findings
}
