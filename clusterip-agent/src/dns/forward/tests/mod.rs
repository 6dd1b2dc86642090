//! Forwarding to upstreams that answer, do not, lie, and come back.

mod fake;

use std::{io::Write as _, net::Ipv4Addr, sync::atomic::Ordering::SeqCst};

use hickory_proto::rr::RData;
use tokio::{sync::Notify, task::JoinSet};

use self::fake::{Fake, HASTY, Manner, PATIENT, closed, until};
use super::{packed::tests::question, *};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn settings(upstreams: &[SocketAddr], timing: Timing) -> Settings {
    Settings {
        upstreams: Upstreams::Given(upstreams.to_vec()),
        stubs: vec![],
        own: vec![],
        cache: 1 << 20,
        timing,
    }
}

fn forwarder(upstreams: &[SocketAddr], timing: Timing) -> Forwarder {
    Forwarder::new(settings(upstreams, timing)).unwrap()
}

async fn ask(forwarder: &Forwarder, name: &str) -> Reply {
    forwarder.resolve(&question(name), CLIENT).await
}

/// Response code, addresses and the first TTL.
fn told(reply: &Reply) -> (ResponseCode, Vec<String>, Option<u32>) {
    let addresses = reply.answers.iter().map(|record| match &record.data {
        RData::A(address) => address.to_string(),
        other => panic!("{other}"),
    });
    let ttl = reply.answers.first().map(|record| record.ttl);
    (reply.code, addresses.collect(), ttl)
}

fn truth(ttl: u32) -> (ResponseCode, Vec<String>, Option<u32>) {
    (ResponseCode::NoError, vec!["192.0.2.1".into()], Some(ttl))
}

#[tokio::test]
async fn j8_names_outside_are_asked_once_and_kept_whatever_their_case() {
    let upstream = Fake::start(Manner::Answer(3_000)).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    assert_eq!(told(&ask(&forwarder, "www.test.").await), truth(3_000));
    assert_eq!(
        told(&ask(&forwarder, "WWW.Test.").await).0,
        ResponseCode::NoError
    );
    assert_eq!(upstream.udp(), 1);
    ask(&forwarder, "w3.test.").await;
    assert_eq!(upstream.udp(), 2);
    assert_eq!((forwarder.fill().success, forwarder.fill().denial), (2, 0));
}

#[tokio::test]
async fn j8_a_denial_is_kept_with_its_soa() {
    let upstream = Fake::start(Manner::Denial(600)).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    for _ in 0..2 {
        let reply = ask(&forwarder, "no.test.").await;
        assert_eq!(reply.code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities.len(), 1);
    }
    assert_eq!((upstream.udp(), forwarder.fill().denial), (1, 1));
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_question_upstream() {
    let gate = Arc::new(Notify::new());
    let upstream = Fake::start(Manner::Held(Arc::clone(&gate))).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let forwarder = forwarder.clone();
        clients.spawn(async move { ask(&forwarder, "www.test.").await });
    }
    until("the upstream is asked", || upstream.udp() > 0).await;
    gate.notify_one();
    for reply in clients.join_all().await {
        assert_eq!(told(&reply).1, ["192.0.2.1"]);
    }
    assert_eq!(upstream.udp(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_take_the_question_along() {
    let gate = Arc::new(Notify::new());
    let upstream = Fake::start(Manner::Held(Arc::clone(&gate))).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    let first = {
        let forwarder = forwarder.clone();
        tokio::spawn(async move { ask(&forwarder, "www.test.").await })
    };
    until("the upstream is asked", || upstream.udp() > 0).await;
    first.abort();
    gate.notify_one();
    assert_eq!(told(&ask(&forwarder, "www.test.").await).1, ["192.0.2.1"]);
    assert_eq!(upstream.udp(), 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_asked_again_over_tcp() {
    let upstream = Fake::start(Manner::CutShort).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    assert_eq!(ask(&forwarder, "large.test.").await.answers.len(), 100);
    assert_eq!(upstream.asked.tcp.load(SeqCst), 1);
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without() {
    let upstream = Fake::start(Manner::NoEdns).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    assert_eq!(told(&ask(&forwarder, "www.test.").await), truth(60));
    assert_eq!(upstream.udp(), 2);
}

#[tokio::test]
async fn lies_are_not_taken_and_do_not_keep_the_truth_away() {
    let upstream = Fake::start(Manner::LiesFirst).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    assert_eq!(told(&ask(&forwarder, "www.test.").await), truth(60));
}

#[tokio::test]
async fn who_only_lies_has_not_answered() {
    let upstream = Fake::start(Manner::Lies).await;
    let forwarder = forwarder(&[upstream.address], HASTY);
    assert_eq!(
        ask(&forwarder, "www.test.").await.code,
        ResponseCode::ServFail
    );
    assert_eq!((forwarder.fill().success, forwarder.fill().denial), (0, 0));
}

#[tokio::test]
async fn upstreams_that_are_down_are_a_servfail_in_time() {
    let timing = Timing {
        total: std::time::Duration::from_millis(400),
        ..HASTY
    };
    let silent = Fake::start(Manner::Silence).await;
    for upstreams in [vec![silent.address], vec![closed().await, closed().await]] {
        let forwarder = forwarder(&upstreams, timing);
        let start = Instant::now();
        assert_eq!(
            ask(&forwarder, "www.test.").await.code,
            ResponseCode::ServFail
        );
        // Far above the total, for a machine that is busy, and far below "never".
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn who_is_silent_is_asked_no_more_while_another_answers() {
    let (silent, well) = (
        Fake::start(Manner::Silence).await,
        Fake::start(Manner::Answer(60)).await,
    );
    let forwarder = forwarder(&[silent.address, well.address], HASTY);
    for number in 0..6 {
        let reply = ask(&forwarder, &format!("n{number}.test.")).await;
        assert_eq!(told(&reply), truth(60), "{number}");
    }
    assert_eq!(silent.udp(), 2, "it rests after the second failure");
    assert!(well.udp() >= 6);
    // It is looked after meanwhile, and comes back.
    until("it is looked after", || {
        silent.asked.checks.load(SeqCst) > 0
    })
    .await;
    silent.becomes(Manner::Answer(60));
    let is_well = || forwarder.upstreams()[0].resting().is_none();
    until("it is well", is_well).await;
    ask(&forwarder, "again.test.").await;
    assert_eq!(silent.udp(), 3);
}

#[tokio::test]
async fn when_all_rest_they_are_asked_nevertheless() {
    let upstream = Fake::start(Manner::Silence).await;
    let forwarder = forwarder(&[upstream.address], HASTY);
    assert_eq!(
        ask(&forwarder, "a.test.").await.code,
        ResponseCode::ServFail
    );
    assert!(forwarder.upstreams()[0].resting().is_some());
    upstream.becomes(Manner::Answer(60));
    assert_eq!(told(&ask(&forwarder, "b.test.").await), truth(60));
}

#[tokio::test]
async fn a_failure_of_one_upstream_is_made_good_by_the_next() {
    for code in [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::NotImp,
    ] {
        let (poor, well) = (
            Fake::start(Manner::Code(code)).await,
            Fake::start(Manner::Answer(60)).await,
        );
        let both = forwarder(&[poor.address, well.address], PATIENT);
        assert_eq!(told(&ask(&both, "www.test.").await), truth(60));
        let alone = forwarder(&[poor.address], PATIENT);
        assert_eq!(ask(&alone, "www.test.").await.code, code);
    }
}

#[tokio::test]
async fn a_popular_reply_is_fetched_again_before_it_expires() {
    let upstream = Fake::start(Manner::Answer(1)).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    let asked = question("www.test.");
    let waiting = forwarder.clone();
    ask(&forwarder, "www.test.").await;
    until("it is fetched", || {
        // A machine that pauses may miss the moment: it is asked for again then, as by any client.
        if waiting.kept(&asked).is_none() {
            drop(waiting.board(&Key::new(&asked), &asked, None));
        }
        waiting.cache_figures().prefetched() > 0
    })
    .await;
}

#[tokio::test]
async fn an_expired_reply_is_better_than_none() {
    let upstream = Fake::start(Manner::Answer(1)).await;
    let forwarder = forwarder(&[upstream.address], HASTY);
    ask(&forwarder, "www.test.").await;
    // Whoever asks meanwhile makes it popular, and a popular reply does not expire.
    let kept = Instant::now();
    until("it has expired", || kept.elapsed().as_secs() > 0).await;
    upstream.becomes(Manner::Silence);
    assert_eq!(
        told(&ask(&forwarder, "www.test.").await),
        truth(30),
        "RFC 8767"
    );
    upstream.becomes(Manner::Code(ResponseCode::ServFail));
    assert_eq!(told(&ask(&forwarder, "www.test.").await), truth(30));
}

#[tokio::test]
async fn an_upstream_that_asks_us_is_found_and_left_out() {
    let upstream = Fake::start(Manner::Silence).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    upstream.becomes(Manner::Back(forwarder.clone()));
    let background = {
        let forwarder = forwarder.clone();
        tokio::spawn(async move { forwarder.run().await })
    };
    until("the loop is found", || forwarder.upstreams()[0].is_loop()).await;
    let before = upstream.udp();
    assert_eq!(
        ask(&forwarder, "www.test.").await.code,
        ResponseCode::ServFail
    );
    assert_eq!(upstream.udp(), before, "it is not asked");
    background.abort();
}

#[tokio::test]
async fn a_question_that_comes_back_waits_for_itself_and_fails() {
    let upstream = Fake::start(Manner::Silence).await;
    let forwarder = forwarder(&[upstream.address], HASTY);
    upstream.becomes(Manner::Back(forwarder.clone()));
    assert_eq!(
        ask(&forwarder, "www.test.").await.code,
        ResponseCode::ServFail
    );
    assert!(
        upstream.udp() <= 3,
        "each round asks once: {}",
        upstream.udp()
    );
}

#[tokio::test]
async fn a_stub_zone_has_its_own_upstream() {
    let (corp, others) = (
        Fake::start(Manner::Answer(1_000)).await,
        Fake::start(Manner::Answer(2_000)).await,
    );
    let forwarder = Forwarder::new(Settings {
        stubs: vec![(question("corp.test.").name, corp.address)],
        ..settings(&[others.address], PATIENT)
    })
    .unwrap();
    assert_eq!(told(&ask(&forwarder, "www.CORP.test.").await), truth(1_000));
    assert_eq!(told(&ask(&forwarder, "www.test.").await), truth(2_000));
    assert_eq!((corp.udp(), others.udp()), (1, 1));
}

#[tokio::test]
async fn upstreams_of_a_file_follow_it() {
    let (first, second) = (
        Fake::start(Manner::Answer(1_000)).await,
        Fake::start(Manner::Answer(2_000)).await,
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // A resolv.conf has no ports: the file only shows that it is read.
    file.write_all(b"nameserver 192.0.2.1\n").unwrap();
    let forwarder = Forwarder::new(Settings {
        upstreams: Upstreams::File(file.path().to_owned()),
        own: vec!["192.0.2.9:53".parse().unwrap()],
        ..settings(&[], PATIENT)
    })
    .unwrap();
    let addresses = || {
        let upstreams = forwarder.upstreams();
        upstreams
            .iter()
            .map(|one| one.address().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(addresses(), ["192.0.2.1:53"]);
    file.write_all(b"nameserver 192.0.2.2\nnameserver 192.0.2.9\n")
        .unwrap();
    follow::read(file.path(), &forwarder);
    assert_eq!(
        addresses(),
        ["192.0.2.1:53", "192.0.2.2:53"],
        "we are left out"
    );
    // In the moment of a change it may be empty.
    file.as_file().set_len(0).unwrap();
    follow::read(file.path(), &forwarder);
    assert_eq!(addresses().len(), 2);
    drop((first, second));
}

#[tokio::test]
async fn our_own_address_is_refused_by_name() {
    let own: SocketAddr = "10.96.0.10:53".parse().unwrap();
    for (upstreams, stubs) in [
        (vec![own], vec![]),
        (vec![], vec![(question("corp.test.").name, own)]),
    ] {
        let refused = Forwarder::new(Settings {
            stubs,
            own: vec![own],
            ..settings(&upstreams, PATIENT)
        });
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("10.96.0.10:53") && error.contains("itself"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_not_forwarded_is_refused() {
    let upstream = Fake::start(Manner::Answer(60)).await;
    let forwarder = forwarder(&[upstream.address], PATIENT);
    let mut chaos = question("version.bind.");
    chaos.query_class = DNSClass::CH;
    let mut transfer = question("test.");
    transfer.query_type = RecordType::AXFR;
    for refused in [chaos, transfer] {
        let reply = forwarder.resolve(&refused, CLIENT).await;
        assert_eq!(reply, Reply::failure(ResponseCode::Refused));
    }
    assert_eq!(upstream.udp(), 0);
    let alone = self::forwarder(&[], PATIENT);
    assert_eq!(ask(&alone, "www.test.").await.code, ResponseCode::Refused);
}
