//! What the maps take of the kernel's memory, as the kernel counts it.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use clusterip_common::abi::maps;

/// Bytes by map, of those that are still in the object. One whose size the kernel does not tell is left out.
#[must_use]
pub fn footprint(ebpf: &Ebpf) -> BTreeMap<&'static str, u64> {
    let bytes = |name: &str, map: &Map| {
        let shape = maps::ALL.iter().find(|shape| shape.name == name)?;
        Some((shape.name, bytes(data(map)?)?))
    };
    ebpf.maps()
        .filter_map(|(name, map)| bytes(name, map))
        .collect()
}

const fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data) => Some(data),
        _ => None,
    }
}

/// `memlock` of a map's descriptor: the memory itself since 6.4 (90a5527d7686), an estimate before.
fn bytes(map: &MapData) -> Option<u64> {
    let number = map.fd().as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    field(&text, "memlock")
}

fn field(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        Some(
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .trim()
                .to_owned(),
        )
    };
    text.lines().find_map(value)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_about_a_map_are_read() {
        let text = "pos:\t0\nmap_type:\t9\nmax_entries:\t1024\nmemlock:\t169152\nmap_id:\t7\n";
        assert_eq!(field(text, "memlock"), Some(169_152));
        assert_eq!(field(text, "lock"), None);
    }
}
