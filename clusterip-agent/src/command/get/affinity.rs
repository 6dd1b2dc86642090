//! `get affinity`

use super::{
    super::{
        reach::{about, ask},
        table::{age, head},
    },
    AffinityArgs, nothing,
    watch::{Rows, Show},
};
use crate::view::affinity::{AffinityView, ClientView};

pub(super) fn get(args: &AffinityArgs) -> anyhow::Result<()> {
    let question = about("/v1/affinity", &args.wanted.selection(), &[]);
    let show = Show {
        format: args.asking.output,
        watch: args.watch,
        fleeting: &["EXPIRES"],
        nothing: &|| {
            nothing(
                &args.asking.reach,
                "clients that keep a backend",
                &args.wanted,
            )
        },
    };
    show.run(|| ask::<AffinityView>(&args.asking.reach, &question), cells)
}

#[cfg(test)]
pub(super) fn table(document: &AffinityView) -> String {
    super::super::table::aligned(&cells(document))
}

fn cells(document: &AffinityView) -> Rows {
    let mut rows = vec![head(&["SERVICE", "CLIENT", "BACKEND", "EXPIRES"])];
    rows.extend(document.clients.iter().map(row));
    rows
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
