//! `perito doctor`

use anyhow::bail;
use clap::Args;
use comfy_table::Color;
use perito_runtime::{BrokerArgs, DatabaseArgs, ObjectStoreArgs};
use serde_json::json;

use super::Context;
use crate::{
    doctor::{self, Finding, Verdict},
    report,
};

/// Looks for faults in everything that Perito stands on, and says how to mend them.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DoctorArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    objects: ObjectStoreArgs,
}

const HELP: &str = "\
Run it where the services run, with their variables: what is not set is skipped. In Kubernetes:
  kubectl exec deploy/perito-coordinator -- perito doctor
It changes nothing, but for a small object below doctor/ in the bucket, which it writes and removes.
Exit codes: 0 without a fault (warnings are none), 1 with one.
With --json: {\"healthy\": …, \"findings\": [{\"part\", \"check\", \"verdict\", \"detail\", \"remedy\"}]}; verdict is ok, skipped, warning or fault.";

pub(super) async fn run(context: &Context, args: DoctorArgs) -> anyhow::Result<()> {
    let (coordinator, postgres, rabbitmq, store) = tokio::join!(
        doctor::coordinator::examine(&context.api),
        doctor::postgres::examine(&args.database),
        doctor::rabbitmq::examine(&args.broker),
        doctor::store::examine(&args.objects),
    );
    let findings = [coordinator, postgres, rabbitmq, store].concat();
    let faults = findings.iter().filter(|finding| finding.verdict == Verdict::Fault).count();
    let document = json!({ "healthy": faults == 0, "findings": findings });
    context.output.document(&document, || render(&findings, context.output.colour))?;
    if faults > 0 {
        bail!("{faults} of {} checks found a fault", findings.len());
    }
    Ok(())
}

fn render(findings: &[Finding], colour: bool) -> String {
    let rows = findings.iter().map(|finding| {
        let (word, shade) = match finding.verdict {
            Verdict::Ok => ("ok", Color::Green),
            Verdict::Skipped => ("skipped", Color::DarkGrey),
            Verdict::Warning => ("warning", Color::Yellow),
            Verdict::Fault => ("FAULT", Color::Red),
        };
        let detail = match &finding.remedy {
            Some(remedy) => format!("{}\n-> {remedy}", finding.detail),
            None => finding.detail.clone(),
        };
        [report::coloured(word, shade, colour), finding.part.into(), finding.check.into(), detail.into()]
    });
    let mut table = report::table(&["", "part", "check", "found"]);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}
