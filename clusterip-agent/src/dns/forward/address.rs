//! Addresses of upstreams as they are written.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::rr::Name;

/// Where DNS is asked unless a port is named.
const PORT: u16 = 53;

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]:5353`.
///
/// # Errors
/// What is allowed.
pub fn upstream(text: &str) -> Result<SocketAddr, String> {
    let bare = || {
        text.parse()
            .map(|address: IpAddr| SocketAddr::new(address, PORT))
    };
    let address: SocketAddr = text
        .parse()
        .or_else(|_error| bare())
        .map_err(|_error: std::net::AddrParseError| {
            format!("{text} must be ADDR or ADDR:PORT, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53")
        })?;
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        return Err(format!(
            "{text} must be an address and port that can be asked"
        ));
    }
    Ok(address)
}

/// A zone with its own upstream: `corp.example=192.0.2.53:5353`.
///
/// # Errors
/// What is allowed.
pub fn stub(text: &str) -> Result<(Name, SocketAddr), String> {
    let (zone, address) = text.split_once('=').ok_or_else(|| {
        format!("{text} must be ZONE=ADDR[:PORT], such as corp.example=192.0.2.53")
    })?;
    let mut name = Name::from_ascii(zone)
        .map_err(|error| format!("{zone} must be the name of a zone: {error}"))?
        .to_lowercase();
    name.set_fqdn(true);
    if name.is_root() {
        return Err("the zone must be below the root; --dns-upstream is for all names".to_owned());
    }
    Ok((name, upstream(address)?))
}

/// The name servers that a resolv.conf names, in its order. What is no address is left out, as the C library does.
#[must_use]
pub fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then_some(())?;
        // A zone (fe80::1%eth0) has no meaning without its device; such a server is left out.
        upstream(words.next()?).ok()
    });
    let mut found = Vec::new();
    for server in servers {
        if !found.contains(&server) {
            found.push(server);
        }
    }
    found
}

/// The search list that a resolv.conf names; the last one counts.
#[must_use]
pub fn search_list(resolv_conf: &str) -> Vec<Name> {
    let mut lists = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.collect::<Vec<_>>())
    });
    let names = lists.next_back().unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| {
            let mut name = Name::from_ascii(name).ok()?;
            name.set_fqdn(true);
            (!name.is_root()).then_some(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_has_port_53_unless_it_says_otherwise() {
        for (text, wanted) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
        ] {
            assert_eq!(upstream(text).unwrap().to_string(), wanted);
        }
        for text in [
            "",
            "dns.test",
            "192.0.2.1:0",
            "192.0.2.1:x",
            "0.0.0.0",
            "[::]:53",
            "224.0.0.251",
        ] {
            assert!(upstream(text).unwrap_err().contains("must be"), "{text}");
        }
    }

    #[test]
    fn a_stub_is_a_zone_and_an_upstream() {
        let (zone, address) = stub("Corp.Example=192.0.2.1").unwrap();
        assert_eq!(
            (zone.to_string(), address.to_string()),
            ("corp.example.".to_owned(), "192.0.2.1:53".to_owned())
        );
        for text in [
            "corp.example",
            "=192.0.2.1",
            ".=192.0.2.1",
            "a..b=192.0.2.1",
            "corp.example=",
        ] {
            stub(text).unwrap_err();
        }
    }

    #[test]
    fn a_resolv_conf_is_read_as_the_c_library_does() {
        let text = "# nameserver 192.0.2.9\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\nnameserver x\n\
                    nameserver fe80::1%eth0\nnameserver 192.0.2.1\nnameserver\noptions ndots:5\n\
                    domain old.test\nsearch a.test b.test.\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        let search: Vec<String> = search_list(text).iter().map(ToString::to_string).collect();
        assert_eq!(search, ["a.test.", "b.test."]);
        assert_eq!((name_servers(""), search_list("")), (vec![], vec![]));
    }
}
