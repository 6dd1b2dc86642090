//! How flows are spread (B2), and that it may change while the service runs.

use anyhow::Result;
use clusterip_tests::{client, lab, lab::Lab, manifests, require_root, wait};

use crate::spread::tally;

/// Requests of one count; a multiple of every sum of weights here.
const REQUESTS: usize = 40;

/// Writes a backend's Pod object with that weight.
fn weigh(lab: &Lab, name: &str, weight: u32) -> Result<()> {
    let text = manifests::pod(lab.pod(name)?, "web", true).replace(
        "  labels:\n",
        &format!("  annotations:\n    clusterip.dev/weight: \"{weight}\"\n  labels:\n"),
    );
    lab.manifests.put(&format!("pod-{name}.yaml"), &text)
}

#[test]
fn b2_flows_follow_the_weights_exactly_also_after_they_change() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    weigh(&lab, "web-11", 30)?;
    weigh(&lab, "web-12", 10)?;
    lab.start()?;
    let counts = |to| -> Option<[usize; 2]> {
        let tally = lab
            .client
            .run(|| tally(REQUESTS, || Ok(client::get(to)?.pod)));
        let tally = tally.ok()?;
        Some(["web-11", "web-12"].map(|name| tally.get(name).copied().unwrap_or_default()))
    };
    for to in lab::tcp(10) {
        wait::until("there are three flows for one", || {
            (counts(to)? == [30, 10]).then_some(())
        })?;
        assert_eq!(counts(to), Some([30, 10]), "{to}");
    }
    weigh(&lab, "web-12", 70)?;
    for to in lab::tcp(10) {
        wait::until("there are three flows for seven", || {
            (counts(to)? == [12, 28]).then_some(())
        })?;
        assert_eq!(counts(to), Some([12, 28]), "{to}");
    }
    Ok(())
}
