//! `get affinity`

use super::{
    super::{
        reach::{about, ask},
        table::{age, aligned, head},
    },
    AffinityArgs, nothing, show,
};
use crate::view::affinity::{AffinityView, ClientView};

pub(super) fn get(args: &AffinityArgs) -> anyhow::Result<()> {
    let question = about("/v1/affinity", &args.wanted.selection(), &[]);
    let document: AffinityView = ask(&args.asking.reach, &question)?;
    show(&document, args.asking.output, |document| {
        if document.clients.is_empty() {
            return nothing("clients that keep a backend", Some(&args.wanted));
        }
        table(document)
    })
}

pub(super) fn table(document: &AffinityView) -> String {
    let mut rows = vec![head(&["SERVICE", "CLIENT", "BACKEND", "EXPIRES"])];
    rows.extend(document.clients.iter().map(row));
    aligned(&rows)
}

fn row(client: &ClientView) -> Vec<String> {
    let named = |address: String, pod: &str| match pod {
        "" => address,
        pod => format!("{address} ({pod})"),
    };
    let port = match client.port_name.as_str() {
        "" => client.protocol.as_str(),
        name => name,
    };
    vec![
        format!("{}/{}:{port}", client.namespace, client.service),
        named(client.client.to_string(), &client.client_pod),
        named(client.backend.to_string(), &client.backend_pod),
        age(client.expires_seconds),
    ]
}
