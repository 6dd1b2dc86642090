//! Bytes in, bytes out: what may be asked, by whom, and what of the answer fits.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use proptest::prelude::*;
use serde_json::json;

use super::{
    access::Access,
    account::Account,
    message::{MOST, Transport},
    responder::{Responder, Response},
    state::State,
    zone::Zone,
};
use crate::{
    config::DnsLog,
    model::{
        allocate::Allocations,
        object::Object,
        objects_for_tests::{app, listing, pod, service, slice},
        range::ServiceRange,
        resolver::{Resolver, snapshot_of},
        service::Algorithm,
    },
    repeatable::config,
};

const WEB: &str = "web.default.svc.cluster.local.";
const MANY: &str = "many.default.svc.cluster.local.";
const POD: &str = "10.1.0.7";

fn responder() -> Responder {
    let zone = Zone::new("cluster.local", vec!["10.96.0.0/16".parse().unwrap()], true).unwrap();
    let account = Account::new(&[], &zone, DnsLog::Off);
    Responder {
        zone,
        access: Access::new(vec!["192.0.2.0/24".parse().unwrap()]),
        outside: None,
        account,
    }
}

/// A service, and a headless one with 110 endpoints and a named port.
fn state() -> State {
    let ips: Vec<String> = (0..110).map(|it| format!("10.2.0.{it}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let mut endpoints = slice("many", "many", &ips);
    if let crate::model::object::Spec::EndpointSlice(slice) = &mut endpoints.spec {
        Arc::make_mut(slice).ports[0].name = "http".into();
    }
    let headless = json!({ "clusterIP": "None", "ports": [{ "name": "http", "port": 80 }] });
    let objects: [Object; 4] = [
        app("web"),
        service("many", &headless),
        endpoints,
        pod("client", "client", POD),
    ];
    let range = ServiceRange::new("10.96.0.0/16".parse().unwrap());
    let pods = vec!["10.9.0.0/16".parse().unwrap()];
    let resolver = Resolver::new("a", Algorithm::default(), vec![range], Allocations::new())
        .with_pod_cidrs(pods);
    State {
        snapshot: snapshot_of(resolver, listing(objects)),
        unanswered: Arc::default(),
        serial: 1,
    }
}

static STATE: LazyLock<State> = LazyLock::new(state);
static RESPONDER: LazyLock<Responder> = LazyLock::new(responder);

fn immediate(
    state: Option<&State>,
    bytes: &[u8],
    client: IpAddr,
    transport: Transport,
) -> Option<Vec<u8>> {
    match RESPONDER.respond(state, bytes, client, transport) {
        Response::Now(bytes) => Some(bytes),
        Response::Later(_) | Response::Never => None,
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn bytes_of(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn ask_as(client: &str, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let client: IpAddr = client.parse().unwrap();
    immediate(Some(&STATE), bytes, client, transport)
}

fn ask(message: &Message, transport: Transport) -> (Message, usize) {
    let bytes = ask_as(POD, &bytes_of(message), transport).expect("an answer");
    (Message::from_vec(&bytes).unwrap(), bytes.len())
}

fn code(message: &Message) -> ResponseCode {
    ask(message, Transport::Udp).0.metadata.response_code
}

#[test]
fn an_answer_belongs_to_its_question() {
    let mut asked = question("WEB.default.svc.Cluster.local.", RecordType::A);
    asked.metadata.checking_disabled = true;
    let (answer, _) = ask(&asked, Transport::Udp);
    assert_eq!(answer.metadata.id, 7);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert!(answer.metadata.authoritative && !answer.metadata.truncation);
    assert!(answer.metadata.recursion_desired && answer.metadata.checking_disabled);
    assert!(answer.queries[0].name().eq_case(asked.queries[0].name()));
    assert!(answer.answers[0].name.eq_case(asked.queries[0].name()));
    assert!(answer.edns.is_none(), "nobody asked");
}

#[test]
fn what_is_no_question_gets_no_answer_and_a_bad_one_is_told_so() {
    let good = bytes_of(&question(WEB, RecordType::A));
    let answer = |bytes: &[u8]| {
        let answer = ask_as(POD, bytes, Transport::Udp)?;
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, 7);
        Some(answer.metadata.response_code)
    };
    assert_eq!(answer(&good), Some(ResponseCode::NoError));
    for short in 0..12 {
        assert_eq!(answer(&good[..short]), None, "{short} bytes");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(answer(&with(2, 0x81)), None, "an answer is not answered");
    for opcode in [1, 2, 4, 5, 6, 15] {
        let code = answer(&with(2, opcode << 3));
        assert_eq!(code, Some(ResponseCode::NotImp), "opcode {opcode}");
    }
    for questions in [0, 2] {
        let code = answer(&with(5, questions));
        assert_eq!(code, Some(ResponseCode::FormErr), "{questions} questions");
    }
    for cut in 12..good.len() {
        assert_eq!(
            answer(&good[..cut]),
            Some(ResponseCode::FormErr),
            "cut at {cut}"
        );
    }
    let mut circle = good[..12].to_vec();
    circle.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(answer(&circle), Some(ResponseCode::FormErr));
    let mut endless = good[..12].to_vec();
    endless.extend(std::iter::repeat_n([63, 97].into_iter().chain([97; 62]), 5).flatten());
    endless.extend([0, 0, 1, 0, 1]);
    assert_eq!(
        answer(&endless),
        Some(ResponseCode::FormErr),
        "an oversize name"
    );
    assert_eq!(
        answer(&with(11, 1)),
        Some(ResponseCode::FormErr),
        "a record that is not there"
    );
}

#[test]
fn other_classes_and_transfers_are_refused() {
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY] {
        let mut asked = question("version.bind.", RecordType::TXT);
        asked.queries[0].set_query_class(class);
        assert_eq!(code(&asked), ResponseCode::Refused, "{class}");
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        let (answer, _) = ask(&question("cluster.local.", kind), Transport::Tcp);
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::Refused,
            "{kind}"
        );
        assert!(answer.answers.is_empty());
    }
}

#[test]
fn only_the_inside_is_answered() {
    let bytes = bytes_of(&question(WEB, RecordType::A));
    let code = |client| {
        let answer = ask_as(client, &bytes, Transport::Udp)?;
        Some(Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    for inside in [
        POD,
        "10.9.3.3",
        "127.0.0.1",
        "::1",
        "169.254.7.7",
        "fe80::7",
        "192.0.2.9",
        "::ffff:192.0.2.9",
    ] {
        assert_eq!(code(inside), Some(ResponseCode::NoError), "{inside}");
    }
    for outside in ["10.1.0.8", "198.51.100.1", "2001:db8::1"] {
        assert_eq!(code(outside), Some(ResponseCode::Refused), "{outside}");
    }
    for nobody in [
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.251",
        "ff02::fb",
    ] {
        assert_eq!(code(nobody), None, "{nobody}");
    }
}

/// J6
#[test]
fn before_the_first_state_everybody_is_to_ask_again() {
    let bytes = bytes_of(&question(WEB, RecordType::A));
    for client in [POD, "127.0.0.1", "198.51.100.1"] {
        let client: IpAddr = client.parse().unwrap();
        let answer = immediate(None, &bytes, client, Transport::Udp);
        let answer = Message::from_vec(&answer.unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
}

/// J7
#[test]
fn what_does_not_fit_into_a_datagram_is_marked_and_comes_by_tcp() {
    let mut asked = question(MANY, RecordType::A);
    let (answer, length) = ask(&asked, Transport::Udp);
    assert!(answer.metadata.truncation && length <= 512, "{length}");
    let some = answer.answers.len();
    assert!((20..=30).contains(&some), "what fits is there: {some}");
    let (whole, _) = ask(&asked, Transport::Tcp);
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 110);
    for (size, limit) in [
        (100, 512),
        (512, 512),
        (1232, 1232),
        (65_000, usize::from(MOST)),
    ] {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        asked.set_edns(edns);
        let (answer, length) = ask(&asked, Transport::Udp);
        assert!(length <= limit, "{size}: {length}");
        assert_eq!(
            answer.metadata.truncation,
            limit < usize::from(MOST),
            "{size}"
        );
        assert!(length > limit.min(1819) / 2, "{size}: {length}");
        assert_eq!(answer.edns.unwrap().max_payload(), MOST);
    }
}

/// J7
#[test]
fn additional_addresses_are_left_out_before_anything_is_missing() {
    let name = format!("_http._tcp.{MANY}");
    let mut asked = question(&name, RecordType::SRV);
    let (whole, _) = ask(&asked, Transport::Tcp);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (110, 110));
    let mut edns = Edns::new();
    edns.set_max_payload(MOST);
    asked.set_edns(edns);
    let (answer, length) = ask(&asked, Transport::Udp);
    assert!(answer.additionals.is_empty() && length <= MOST.into());
    assert!(
        answer.metadata.truncation,
        "110 services are still too many"
    );
}

#[test]
fn edns_of_a_later_version_is_told_the_version_there_is() {
    let mut asked = question(WEB, RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    asked.set_edns(edns);
    let (answer, _) = ask(&asked, Transport::Udp);
    // BADVERS and BADSIG are one number.
    let code = u16::from(answer.metadata.response_code);
    assert_eq!(code, u16::from(ResponseCode::BADVERS));
    assert_eq!(answer.edns.unwrap().version(), 0);
}

#[test]
fn clients_find_another_endpoint_first() {
    let firsts: std::collections::BTreeSet<IpAddr> = (0..50)
        .map(|id| {
            let mut asked = question(MANY, RecordType::A);
            asked.metadata.id = id;
            let (answer, _) = ask(&asked, Transport::Tcp);
            match answer.answers[0].data {
                RData::A(address) => IpAddr::from(address.0),
                ref other => panic!("{other}"),
            }
        })
        .collect();
    assert_eq!(firsts.len(), 50);
}

/// Bytes of all kinds, and questions with a few bytes changed.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        WEB,
        MANY,
        "1.0.96.10.in-addr.arpa.",
        "_a._b.c.d.svc.cluster.local.",
        "x.",
    ];
    let question =
        (0..names.len(), any::<u16>(), any::<bool>()).prop_map(move |(name, kind, edns)| {
            let mut message = question(names[name], kind.into());
            if edns {
                message.set_edns(Edns::new());
            }
            bytes_of(&message)
        });
    let changed = (
        question,
        proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6),
    );
    let changed = changed.prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![1 => proptest::collection::vec(any::<u8>(), 0..600), 4 => changed]
}

proptest! {
    #![proptest_config(config(10_000))]

    #[test]
    fn ten_thousand_random_questions_get_an_answer_of_theirs_or_none(bytes in anything()) {
        let client: IpAddr = POD.parse().unwrap();
        for (transport, limit) in [(Transport::Udp, usize::from(MOST)), (Transport::Tcp, 65_535)] {
            for state in [Some(&*STATE), None] {
                let Some(answer) = immediate(state, &bytes, client, transport) else {
                    continue;
                };
                prop_assert!(answer.len() <= limit);
                prop_assert_eq!(&answer[..2], &bytes[..2]);
                let read = Message::from_vec(&answer);
                prop_assert!(read.is_ok(), "{:?} of {:?}", read, answer);
                prop_assert_eq!(read.unwrap().metadata.message_type, MessageType::Response);
            }
        }
    }
}
