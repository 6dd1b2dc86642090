//! What it costs that somebody listens.

use anyhow::Result;
use clusterip_agent::dataplane::events::Events;
use clusterip_common::abi::{EventKind, Watch};

use super::{Bench, FROM_POD, Family, Packet, REFERENCE, Row, median, row};

/// Passes between two looks into the ring: as many as it holds.
const FILL: u32 = 4_000;

const ONE: &str = "established, one listener";
const TOLD: &str = "established, each one told";
const LOST: &str = "established, each one lost";
/// Rows that are measured together.
pub(super) const LISTENED: [&str; 3] = [ONE, TOLD, LOST];

impl Bench<'_> {
    /// Rows of an established packet while somebody listens, and how many events were told and lost.
    pub(super) fn listened(
        &mut self,
        family: &Family,
        events: &mut Events,
        request: &Packet,
    ) -> Result<(Vec<Row>, String)> {
        let mut rows = Vec::new();
        let quiet = Watch {
            kinds: !EventKind::TRANSLATED.bit(),
            ..Watch::everything(u64::MAX)
        };
        events.watch(&quiet)?;
        rows.push(self.row(ONE, FROM_POD, request, request, None)?);
        let (lost, mut told) = (events.lost()?, 0);
        events.watch(&Watch::everything(u64::MAX))?;
        let frame = request.bytes();
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let base = self.pass(REFERENCE, &frame, FILL)?;
            let time = self.pass(FROM_POD, &frame, FILL)?;
            told += events.drain(usize::MAX, |_, _| {});
            times.push(time);
            ratios.push(time / base);
        }
        rows.push(row(TOLD, times, Some(median(&mut ratios)), None));
        let dropped = events.lost()? - lost;
        // Nobody looks into the ring.
        rows.push(self.row(LOST, FROM_POD, request, request, None)?);
        let missed = events.lost()? - lost - dropped;
        events.watch(&Watch::NOBODY)?;
        events.drain(usize::MAX, |_, _| {});
        let text = format!(
            "{}: {told} events told and {dropped} lost where the ring was emptied, {missed} lost where it was not",
            family.name
        );
        Ok((rows, text))
    }
}
