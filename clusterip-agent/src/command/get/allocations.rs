//! `get allocations`

use super::{
    super::{
        reach::{about, ask},
        table::{age, dash, head},
    },
    AllocationsArgs, nothing,
    watch::{Rows, Show},
};
use crate::view::allocations::{Allocation, AllocationsView};

pub(super) fn get(args: &AllocationsArgs) -> anyhow::Result<()> {
    let question = about("/v1/allocations", &args.wanted.selection(), &[]);
    let show = Show {
        format: args.asking.output,
        watch: args.watch,
        fleeting: &["SINCE"],
        nothing: &|| nothing(&args.asking.reach, "allocations", &args.wanted),
    };
    show.run(
        || ask::<AllocationsView>(&args.asking.reach, &question),
        cells,
    )
}

#[cfg(test)]
pub(super) fn table(document: &AllocationsView) -> String {
    super::super::table::aligned(&cells(document))
}

fn cells(document: &AllocationsView) -> Rows {
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
    rows
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
