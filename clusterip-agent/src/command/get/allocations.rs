//! `get allocations`

use super::{
    super::{
        reach::{about, ask},
        table::{age, aligned, dash, head},
    },
    AllocationsArgs, nothing, show,
};
use crate::view::allocations::{Allocation, AllocationsView};

pub(super) fn get(args: &AllocationsArgs) -> anyhow::Result<()> {
    let question = about("/v1/allocations", &args.wanted.selection(), &[]);
    let document: AllocationsView = ask(&args.asking.reach, &question)?;
    show(&document, args.asking.output, |document| {
        if document.allocations.is_empty() {
            return nothing("allocations", Some(&args.wanted));
        }
        table(document)
    })
}

pub(super) fn table(document: &AllocationsView) -> String {
    let mut rows = vec![head(&[
        "ALLOCATION",
        "KIND",
        "SERVICE",
        "PORT",
        "HOW",
        "SINCE",
        "NOTE",
    ])];
    rows.extend(document.allocations.iter().map(row));
    aligned(&rows)
}

fn row(allocation: &Allocation) -> Vec<String> {
    let what = match (allocation.address, allocation.node_port) {
        (Some(address), _) => address.to_string(),
        (None, Some(port)) => port.to_string(),
        (None, None) => "-".to_owned(),
    };
    vec![
        what,
        allocation.kind.clone(),
        format!("{}/{}", allocation.namespace, allocation.service),
        dash(&allocation.port),
        allocation.how.clone(),
        if allocation.how == "resting" {
            "-".to_owned()
        } else {
            age(allocation.age_seconds)
        },
        allocation.note.clone(),
    ]
}
