//! Which ports the node's own sockets do not take by themselves: from them come those of clients that the node stands for and
//! whose own port is taken (E8).

use std::{fs, ops::RangeInclusive};

/// The kernel's own choice where it does not say.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// Below are the services of the machine itself.
const FIRST: u16 = 1024;

/// The longest run of ports that are neither the kernel's to choose (`ip_local_port_range`), nor reserved
/// (`ip_local_reserved_ports`), nor node ports.
#[must_use]
pub(crate) fn masquerade(node_ports: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let chosen = read("ip_local_port_range").ok();
    let reserved = read("ip_local_reserved_ports").unwrap_or_default();
    longest(node_ports, chosen.as_deref().unwrap_or_default(), &reserved)
}

fn longest(node_ports: &RangeInclusive<u16>, chosen: &str, reserved: &str) -> RangeInclusive<u16> {
    let mut numbers = chosen.split_whitespace().map(str::parse);
    let chosen = match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => EPHEMERAL,
    };
    let reserved = reserved.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    let mut taken: Vec<RangeInclusive<u16>> = reserved.collect();
    taken.extend([chosen, node_ports.clone()]);
    taken.sort_by_key(|range| *range.start());
    let (mut best, mut next) = (FIRST..=FIRST, FIRST);
    // Behind the last port there is one more end.
    taken.push(u16::MAX..=u16::MAX);
    for range in taken {
        let last = range.start().saturating_sub(1);
        if last > next && last - next > best.end() - best.start() {
            best = next..=last;
        }
        next = next.max(range.end().saturating_add(1));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E8
    #[test]
    fn ports_for_clients_are_nobodys_on_the_node() {
        let node_ports = 30_000..=32_767;
        let usual = "32768\t60999\n";
        assert_eq!(longest(&node_ports, usual, "\n"), 1024..=29_999);
        assert_eq!(
            longest(&node_ports, "", "8080,9000-9999\n"),
            10_000..=29_999
        );
        let wide = "1024 61000";
        assert_eq!(longest(&node_ports, wide, ""), 61_001..=65_534);
        let all = "1024 65535";
        assert_eq!(longest(&node_ports, all, "").count(), 1, "one must do");
    }
}
