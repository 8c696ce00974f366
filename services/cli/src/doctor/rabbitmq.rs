//! RabbitMQ.

use perito_broker::{BrokerOptions, ErrorKind, QueueInspection};
use perito_runtime::{BrokerArgs, secret::Secret};

use super::{Finding, Report};

const VARIABLE: &str = "PERITO_AMQP_URL";

/// Asks the broker.
pub async fn examine(args: &BrokerArgs) -> Vec<Finding> {
    let mut report = Report::new("rabbitmq");
    let url = match Secret::find(VARIABLE, args.amqp_url_file.as_deref()) {
        Ok(Some(url)) => url,
        Ok(None) => {
            return report.skip(format!("{VARIABLE} is not set"), "set it as the services have it to look here too");
        }
        Err(error) => {
            report.fault("reach", error.to_string(), format!("mend the file, or set {VARIABLE}"));
            return report.findings;
        }
    };
    let found = match perito_broker::inspect(BrokerOptions::new(url.expose(), &args.broker_namespace)).await {
        Ok(found) => found,
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::Refused => {
                    "give this user configure, write and read on the virtual host (rabbitmqctl set_permissions)"
                }
                ErrorKind::Invalid => "mend what it names",
                _ => "see that RabbitMQ runs, that this machine may connect, and that PERITO_AMQP_URL is right",
            };
            report.fault("reach", error.to_string(), remedy);
            return report.findings;
        }
    };
    report.ok("reach", format!("namespace {}", args.broker_namespace));
    if found.blocked {
        let remedy = "free memory or disk on its nodes: rabbitmqctl status names the alarm";
        report.fault("alarms", "RabbitMQ holds publishers back", remedy);
    }
    queues(&mut report, &found.queues);
    if let Some(mismatch) = &found.mismatch {
        let remedy =
            "they exist with other arguments: drain and delete the queue that is named, the coordinator makes it anew";
        report.fault("topology", mismatch.to_string(), remedy);
    }
    report.findings
}

fn queues(report: &mut Report, queues: &[QueueInspection]) {
    let absent: Vec<_> =
        queues.iter().filter(|queue| queue.content.is_none()).map(|queue| queue.name.as_str()).collect();
    if absent.is_empty() {
        let all = queues.iter().map(|queue| {
            let (messages, consumers) = queue.content.unwrap_or_default();
            format!("{} {messages} messages, {consumers} consumers", queue.name)
        });
        report.ok("queues", all.collect::<Vec<_>>().join("; "));
    } else {
        let remedy = "start a coordinator: it makes them; if one runs, compare PERITO_BROKER_NAMESPACE here and there";
        report.warn("queues", format!("missing: {}", absent.join(", ")), remedy);
    }
    for queue in queues {
        let Some((messages, consumers)) = queue.content else { continue };
        if queue.name.ends_with(".dead-letter") {
            if messages > 0 {
                let detail = format!("{} holds {messages} messages that no program could read", queue.name);
                report.warn("dead letters", detail, "see where they come from, then replay or drop them");
            }
        } else if messages > 0 && consumers == 0 {
            let detail = format!("{messages} messages wait in {} and nobody takes them", queue.name);
            report.warn(
                "consumers",
                detail,
                "start a worker that takes this kind of task (perito worker list shows who runs)",
            );
        }
    }
}
