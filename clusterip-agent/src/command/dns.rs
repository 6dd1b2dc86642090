//! `clusterip dns`: what the resolver in the running agent says.

use clap::{Args, Subcommand};

use super::{
    output,
    reach::{Asking, ask},
    table::{aligned, head},
};
use crate::{
    api::client,
    dns::inquiry,
    view::lookup::{Lookup, RecordView},
};

/// What to do.
#[derive(Subcommand, Debug)]
pub(super) enum Dns {
    /// Ask the agent's resolver as this node does; exit 1 for another answer than NOERROR
    Query(QueryArgs),
}

/// `dns query`
#[derive(Args, Debug)]
pub(super) struct QueryArgs {
    /// Name, taken as absolute with or without a final dot: no search list completes it
    #[arg(value_parser = name)]
    name: String,
    /// Type of records: A, AAAA, SRV, PTR, CNAME, TXT, SOA, NS, ...
    #[arg(value_name = "TYPE", default_value = "A", value_parser = kind)]
    kind: String,
    #[command(flatten)]
    asking: Asking,
}

fn name(text: &str) -> Result<String, inquiry::InquiryError> {
    inquiry::question(text, "A").map(|_| text.to_owned())
}

fn kind(text: &str) -> Result<String, inquiry::InquiryError> {
    inquiry::question(".", text).map(|_| text.to_owned())
}

/// Asks and prints; whether the answer is NOERROR.
pub(super) fn dns(what: &Dns) -> anyhow::Result<bool> {
    let Dns::Query(QueryArgs { name, kind, asking }) = what;
    let values = [("name", Some(name.as_str())), ("type", Some(kind.as_str()))];
    let document: Lookup = ask(&asking.reach, &client::question("/v1/dns/query", &values))?;
    let text = match asking.output.encode(&document)? {
        Some(text) => text,
        None => table(&document),
    };
    output::print(&text)?;
    Ok(document.rcode == "NOERROR")
}

fn table(document: &Lookup) -> String {
    let Lookup {
        version: _,
        rcode,
        authoritative,
        answers,
        authority,
        microseconds,
    } = document;
    let whose = if *authoritative {
        ", authoritative"
    } else {
        ""
    };
    let mut text = format!("{rcode}{whose}, {microseconds} µs\n");
    if answers.is_empty() && authority.is_empty() {
        return text;
    }
    let mut rows = vec![head(&["SECTION", "NAME", "TTL", "TYPE", "DATA"])];
    for (section, records) in [("answer", answers), ("authority", authority)] {
        rows.extend(records.iter().map(|record| row(section, record)));
    }
    text.push_str(&aligned(&rows));
    text
}

fn row(section: &str, record: &RecordView) -> Vec<String> {
    let RecordView {
        name,
        ttl,
        kind,
        data,
    } = record;
    let ttl = ttl.to_string();
    [section, name, &ttl, kind, data].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_by_section() {
        let record = |name: &str, kind: &str, data: &str| RecordView {
            name: name.into(),
            ttl: 5,
            kind: kind.into(),
            data: data.into(),
        };
        let mut document = Lookup {
            version: 1,
            rcode: "NOERROR".into(),
            authoritative: true,
            answers: vec![record("web.example.", "A", "10.96.0.10")],
            authority: vec![record("example.", "NS", "ns.example.")],
            microseconds: 42,
        };
        let wanted = "NOERROR, authoritative, 42 µs\n\
                      SECTION    NAME          TTL  TYPE  DATA\n\
                      answer     web.example.  5    A     10.96.0.10\n\
                      authority  example.      5    NS    ns.example.\n";
        assert_eq!(table(&document), wanted);
        document.answers.clear();
        document.authority.clear();
        document.authoritative = false;
        document.rcode = "REFUSED".into();
        assert_eq!(table(&document), "REFUSED, 42 µs\n");
    }
}
