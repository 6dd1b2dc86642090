//! Addresses and ranges as objects write them (A15).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// An address; an IPv4-mapped IPv6 address is the IPv4 address (A15).
///
/// # Errors
/// What is allowed, if it is none. Leading zeros are refused: some readers take 010 for 8.
pub fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) if has_leading_zero(text) => Err(
            "must be an IP address without leading zeros: some readers take 010 for 10, others for 8"
                .to_owned(),
        ),
        Err(_) => Err("must be an IP address, such as 10.96.0.10 or fd00::10".to_owned()),
    }
}

/// A range; one of IPv4-mapped IPv6 addresses is the range of the IPv4 addresses (A15). Bits below the prefix are
/// dropped.
///
/// # Errors
/// What is allowed, if it is none.
pub fn cidr(text: &str) -> Result<IpNet, String> {
    let parsed = text.split_once('/').and_then(|(base, prefix)| {
        let base = base.parse::<IpAddr>().ok()?;
        let is_plain = prefix == "0" || !prefix.starts_with(['0', '+']);
        let prefix = prefix.parse().ok().filter(|_| is_plain)?;
        range(base, prefix)
    });
    parsed.ok_or_else(|| {
        if has_leading_zero(text) {
            "must be a range of addresses without leading zeros".to_owned()
        } else {
            "must be a range of addresses, such as 10.0.0.0/8 or fd00::/64".to_owned()
        }
    })
}

fn range(base: IpAddr, prefix: u8) -> Option<IpNet> {
    match (base, base.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(mapped)) if prefix >= 96 => {
            Some(Ipv4Net::new(mapped, prefix - 96).ok()?.trunc().into())
        }
        _ => Some(IpNet::new(base, prefix).ok()?.trunc()),
    }
}

/// Whether packets can be sent to an address as to an endpoint or from outside: what is unspecified, loopback or
/// link-local has a meaning on one machine or link only.
pub(super) fn reachable(address: IpAddr) -> Result<(), String> {
    let kind = if address.is_unspecified() {
        "unspecified (0.0.0.0, ::)"
    } else if address.is_loopback() {
        "a loopback address (127.0.0.0/8, ::1)"
    } else if is_link_local(address) {
        "link-local (169.254.0.0/16, fe80::/10)"
    } else if is_link_local_multicast(address) {
        "link-local multicast (224.0.0.0/24, ff02::/16)"
    } else {
        return Ok(());
    };
    Err(format!(
        "may not be {kind}: it would mean another machine on each node"
    ))
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
        IpAddr::V6(v6) => Ipv6Addr::segments(&v6)
            .first()
            .is_some_and(|first| first & 0xff0f == 0xff02),
    }
}

fn has_leading_zero(text: &str) -> bool {
    let base = text.split('/').next().unwrap_or_default();
    base.contains('.')
        && text
            .split(['.', '/', ':'])
            .any(|part| part.len() > 1 && part.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a15_a_mapped_address_is_the_ipv4_address() {
        assert_eq!(
            address("::ffff:10.96.0.1"),
            Ok(IpAddr::from([10, 96, 0, 1]))
        );
        assert_eq!(address("::ffff:a60:1"), Ok(IpAddr::from([10, 96, 0, 1])));
        assert_eq!(
            cidr("::ffff:10.0.0.0/104"),
            Ok("10.0.0.0/8".parse().expect("range"))
        );
    }

    #[test]
    fn a15_leading_zeros_are_refused_and_say_so() {
        for text in ["010.96.0.1", "10.096.0.1", "10.96.0.01", "::ffff:010.0.0.1"] {
            assert!(
                address(text).expect_err(text).contains("leading zeros"),
                "{text}"
            );
        }
        for text in ["010.0.0.0/8", "10.0.0.0/08"] {
            assert!(
                cidr(text).expect_err(text).contains("leading zeros"),
                "{text}"
            );
        }
    }

    #[test]
    fn a15_nothing_crashes() {
        for text in [
            "",
            " ",
            ".",
            "/",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "::g",
            "fe80::1%eth0",
            "10.0.0.1 ",
            "1.2.3.4:80",
        ] {
            assert!(address(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "fd00::/129",
            "a/b",
        ] {
            assert!(cidr(text).is_err(), "{text:?}");
        }
        assert_eq!(cidr("10.1.2.3/0"), Ok("0.0.0.0/0".parse().expect("range")));
    }

    #[test]
    fn h_external_addresses_are_not_unspecified_loopback_or_link_local() {
        for text in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.251",
            "ff02::1",
        ] {
            assert!(reachable(address(text).expect(text)).is_err(), "{text}");
        }
        for text in ["10.0.0.1", "192.0.2.1", "fd00::1"] {
            assert!(reachable(address(text).expect(text)).is_ok(), "{text}");
        }
    }
}
