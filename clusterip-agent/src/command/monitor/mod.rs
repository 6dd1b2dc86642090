//! `clusterip monitor`: what happens to packets and calls, as it happens.

mod pcap;
mod table;

use std::{io::Write as _, ops::ControlFlow, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use self::{pcap::Capture, table::Columns};
use super::{
    output,
    reach::{Reach, run},
};
use crate::{
    api::client::{self, ClientError, question},
    monitor::Wish,
    view::event::{EventLine, LOST, Peer},
};

/// Between two looks for an agent that went away.
const PAUSE: Duration = Duration::from_millis(500);

/// How a line is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Form {
    /// Columns for people
    #[default]
    Table,
    /// An object of JSON
    Json,
}

/// What is wanted.
#[derive(Args, Debug)]
pub(super) struct MonitorArgs {
    #[command(flatten)]
    reach: Reach,
    /// Events of one service: its name, or NAMESPACE/NAME
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Namespace of the service (default), or of services
    #[arg(short, long)]
    namespace: Option<String>,
    /// Kinds (opened, translated, closed, rejected, dropped, answered) or outcomes, separated by commas
    #[arg(long, value_name = "WORD[,WORD]", value_parser = words)]
    outcome: Vec<String>,
    /// Who calls; [ADDR]:PORT for IPv6
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = peer)]
    from: Option<String>,
    /// What is called, or who answers
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = peer)]
    to: Option<String>,
    /// Of the packets of known flows, tell one in N; 0 tells none
    #[arg(long, value_name = "N")]
    sample: Option<u32>,
    /// Write what was rejected or dropped into a file for tcpdump or Wireshark: 128 bytes of each frame at the most
    #[arg(long, value_name = "FILE")]
    write_pcap: Option<PathBuf>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// How to tell it
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

fn words(text: &str) -> Result<String, String> {
    let named = Wish::default().name(text);
    named.map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn peer(text: &str) -> Result<String, String> {
    text.parse::<Peer>().map(|_| text.to_owned())
}

impl MonitorArgs {
    /// As the agent understands it.
    fn question(&self) -> String {
        let named = self.service.as_deref().map(|service| {
            let own = self.namespace.as_deref().unwrap_or("default");
            service.split_once('/').unwrap_or((own, service))
        });
        let namespace = named.map(|(namespace, _)| namespace);
        let outcome = self.outcome.join(",");
        let sample = self.sample.map(|sample| sample.to_string());
        let values = [
            ("namespace", namespace.or(self.namespace.as_deref())),
            ("name", named.map(|(_, name)| name)),
            ("outcome", (!outcome.is_empty()).then_some(&*outcome)),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("sample", sample.as_deref()),
            ("frames", self.write_pcap.as_ref().map(|_| "true")),
        ];
        question("/v1/monitor", &values)
    }
}

/// Where lines go.
struct Sink {
    form: Form,
    columns: Columns,
    capture: Option<Capture>,
    left: Option<u64>,
    /// Why it ended, if something was wrong.
    failure: Option<anyhow::Error>,
}

impl Sink {
    fn take(&mut self, line: &[u8]) -> ControlFlow<()> {
        match self.put(line) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether more is wanted.
    fn put(&mut self, text: &[u8]) -> anyhow::Result<bool> {
        let line: EventLine = serde_json::from_slice(text)
            .context("read an event; is the agent of another version? `clusterip version` tells")?;
        if let (Some(capture), Some(event)) = (&mut self.capture, &line.event) {
            capture.take(&line.time, event)?;
        }
        let is_read = match self.form {
            Form::Json => output::print_or_stop(&String::from_utf8_lossy(text))?,
            Form::Table => output::print_or_stop(&self.columns.line(&line))?,
        };
        let is_event = line.event.is_some() || line.kind == LOST;
        if let Some(left) = self.left.as_mut().filter(|_| is_event) {
            *left = left.saturating_sub(1);
        }
        Ok(is_read && self.left != Some(0))
    }
}

/// Tells events until the reader has had enough. An agent that restarts is waited for.
pub(super) fn monitor(args: &MonitorArgs) -> anyhow::Result<()> {
    let mut sink = Sink {
        form: args.output,
        columns: Columns::default(),
        capture: args
            .write_pcap
            .as_deref()
            .map(Capture::create)
            .transpose()?,
        left: args.count,
        failure: None,
    };
    let question = args.question();
    run(follow(args, &question, &mut sink))??;
    match sink.failure {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

async fn follow(args: &MonitorArgs, question: &str, sink: &mut Sink) -> Result<(), ClientError> {
    let socket = &args.reach.socket;
    let mut has_listened = false;
    loop {
        let result = client::listen(socket, question, |line| {
            if std::mem::replace(&mut has_listened, true) && is_begin(line) {
                tell("the agent is back; what happened in between was told to nobody");
            }
            sink.take(line)
        })
        .await;
        match result {
            Ok(ControlFlow::Break(())) => return Ok(()),
            Ok(ControlFlow::Continue(())) => {
                tell("the agent has ended; this waits for the next one");
            }
            // It is between two lives.
            Err(
                ClientError::NotRunning { .. }
                | ClientError::Connect { .. }
                | ClientError::Http { .. }
                | ClientError::Unready { .. },
            ) if has_listened => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_begin(line: &[u8]) -> bool {
    let line: Result<EventLine, _> = serde_json::from_slice(line);
    line.is_ok_and(|line| line.kind == crate::view::event::BEGIN)
}

/// Beside the events, which may go into a pipe.
fn tell(text: &str) {
    // Nobody is left to tell if this fails.
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MonitorArgs,
    }

    fn asked(arguments: &[&str]) -> Result<String, clap::Error> {
        let line = Line::try_parse_from([&["monitor"], arguments].concat())?;
        Ok(line.args.question())
    }

    #[test]
    fn flags_become_a_question() {
        let question = |arguments: &[&str]| asked(arguments).expect("good flags");
        assert_eq!(question(&[]), "/v1/monitor");
        assert_eq!(question(&["-n", "shop"]), "/v1/monitor?namespace=shop");
        assert_eq!(
            question(&["--service", "web"]),
            "/v1/monitor?namespace=default&name=web"
        );
        assert_eq!(
            question(&[
                "--service",
                "shop/web",
                "--outcome",
                "dropped,no-flow",
                "--from",
                "10.0.0.1:1"
            ]),
            "/v1/monitor?namespace=shop&name=web&outcome=dropped%2Cno-flow&from=10.0.0.1%3A1"
        );
        assert_eq!(
            question(&["--write-pcap", "x", "--sample", "10"]),
            "/v1/monitor?sample=10&frames=true"
        );
        assert!(asked(&["--outcome", "nonsense"]).is_err());
        assert!(asked(&["--to", "web"]).is_err());
    }
}
