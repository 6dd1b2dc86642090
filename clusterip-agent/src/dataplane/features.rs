//! What the running kernel can do that its version does not tell.

use std::{fs, sync::LazyLock};

use aya::util::KernelVersion;

use super::load::at_least;

/// `BPF_F_IPV6` of the L4 checksum helper: changes of addresses and of the checksum cancel each other in an IPv6 packet, so the
/// sum that a device has computed over it stays as it is. Kernel 6.16 has it (ead7f9b8de65), and as a repair it came into the
/// older ones that are still maintained: Debian's 6.1 and 6.12 have it.
const IPV6_CHECKSUM: u64 = 1 << 7;
/// The version that has it for certain.
const IPV6_CHECKSUM_SINCE: KernelVersion = KernelVersion::new(6, 16, 0);

/// The names of the kernel's types, as it publishes them.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Flag for the L4 checksum helper on IPv6: 0 where the kernel would refuse it.
pub(super) fn ipv6_checksum_flag() -> u64 {
    static KNOWN: LazyLock<bool> =
        LazyLock::new(|| at_least(IPV6_CHECKSUM_SINCE) || names("BPF_F_IPV6"));
    if *KNOWN { IPV6_CHECKSUM } else { 0 }
}

/// Whether the kernel's types have this name. One that does not publish them has nothing new.
fn names(name: &str) -> bool {
    let types = fs::read(TYPES).unwrap_or_default();
    has_name(&types, name)
}

/// Names in these types end with a zero byte each, and begin after one.
fn has_name(types: &[u8], name: &str) -> bool {
    String::from_utf8_lossy(types).contains(&format!("\0{name}\0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_a_whole_among_other_bytes() {
        let types = b"\x9f\xeb\x01\0\xff\xfe\0int\0BPF_F_IPV6\0BPF_F_TUNINFO_IPV6\0";
        assert!(has_name(types, "BPF_F_IPV6"));
        assert!(!has_name(types, "BPF_F_IPV"));
        assert!(!has_name(types, "F_IPV6"));
        assert!(!has_name(&[], "BPF_F_IPV6"));
    }
}
