//! Messages made by hand, record by record and byte by byte: what each must mean, hostile ones above all.

use proptest::prelude::*;

use super::*;

const ID: u16 = 0x1234;
const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;

/// Flags of a response: QR, RD, RA; the code in the low four bits.
const OK: u16 = 0x8180;
const NXDOMAIN: u16 = OK | 3;

fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&1u16.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
    out
}

fn a(owner: &str, ttl: u32, ip: [u8; 4]) -> Vec<u8> {
    record(&wire_name(owner), A, ttl, &ip)
}

fn cname(owner: &str, ttl: u32, target: &str) -> Vec<u8> {
    record(&wire_name(owner), CNAME, ttl, &wire_name(target))
}

fn soa(owner: &str, ttl: u32, minimum: u32) -> Vec<u8> {
    let mut data = [wire_name("ns.example"), wire_name("admin.example")].concat();
    for number in [1, 2, 3, 4, minimum] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    record(&wire_name(owner), SOA, ttl, &data)
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    [wire_name(name), kind.to_be_bytes().to_vec(), 1u16.to_be_bytes().to_vec()].concat()
}

fn message(flags: u16, counts: [u16; 4], parts: &[Vec<u8>]) -> Vec<u8> {
    let head = [&[ID, flags][..], &counts].concat();
    [head.iter().flat_map(|n| n.to_be_bytes()).collect(), parts.concat()].concat()
}

fn answer(flags: u16, answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
    let counts = [1, answers.len() as u16, authorities.len() as u16, 0];
    message(flags, counts, &[&[question("www.example.com", A)], answers, authorities].concat())
}

fn asked() -> Question {
    Question::new(&Hostname::new("www.example.com").unwrap(), Family::V4)
}

fn addresses(ips: &[[u8; 4]], ttl: u64) -> Answer {
    let ips = ips.iter().map(|ip| IpAddr::from(*ip)).collect();
    Answer::Reply(Reply::Addresses { ips, ttl: Duration::from_secs(ttl) })
}

fn no_data(ttl: Option<u64>) -> Answer {
    Answer::Reply(Reply::NoData { ttl: ttl.map(Duration::from_secs) })
}

fn no_name(ttl: Option<u64>) -> Answer {
    Answer::Reply(Reply::NxDomain { ttl: ttl.map(Duration::from_secs) })
}

fn chain(aliases: usize) -> Vec<Vec<u8>> {
    let name = |i: usize| if i == 0 { "www.example.com".to_owned() } else { format!("n{i}.example.com") };
    let mut records: Vec<_> = (0..aliases).map(|i| cname(&name(i), 60, &name(i + 1))).collect();
    records.push(a(&name(aliases), 60, [192, 0, 2, 1]));
    records
}

#[test]
fn answers_are_read() {
    let www = "www.example.com";
    for (what, bytes, expected) in [
        (
            "in the server's order, smallest ttl, each once",
            answer(OK, &[a(www, 60, [192, 0, 2, 9]), a(www, 30, [192, 0, 2, 1]), a(www, 30, [192, 0, 2, 9])], &[]),
            addresses(&[[192, 0, 2, 9], [192, 0, 2, 1]], 30),
        ),
        (
            "case does not matter",
            answer(OK, &[a("WwW.eXample.com", 60, [192, 0, 2, 1])], &[]),
            addresses(&[[192, 0, 2, 1]], 60),
        ),
        (
            "an alias and its ttl, records in any order",
            answer(OK, &[a("cdn.test", 60, [192, 0, 2, 1]), cname(www, 5, "CDN.test")], &[]),
            addresses(&[[192, 0, 2, 1]], 5),
        ),
        (
            "only records of the chain (poisoning)",
            answer(OK, &[a(www, 60, [192, 0, 2, 1]), a("bank.example", 60, [203, 0, 113, 66])], &[]),
            addresses(&[[192, 0, 2, 1]], 60),
        ),
        ("only foreign records", answer(OK, &[a("bank.example", 60, [203, 0, 113, 66])], &[]), no_data(None)),
        ("only the other family", answer(OK, &[record(&wire_name(www), AAAA, 60, &[0; 16])], &[]), no_data(None)),
        (
            "another class",
            {
                let mut chaos = a(www, 60, [192, 0, 2, 1]);
                let class = wire_name(www).len() + 3;
                chaos[class] = 3;
                answer(OK, &[chaos], &[])
            },
            no_data(None),
        ),
        ("20 aliases", answer(OK, &chain(20), &[]), addresses(&[[192, 0, 2, 1]], 60)),
        ("21 aliases", answer(OK, &chain(21), &[]), Answer::Failed(Failure::Aliases)),
        ("an alias of itself", answer(OK, &[cname(www, 60, www)], &[]), Answer::Failed(Failure::Aliases)),
        (
            "a circle",
            answer(OK, &[cname(www, 60, "b.test"), cname("b.test", 60, www)], &[]),
            Answer::Failed(Failure::Aliases),
        ),
        ("ttl 0", answer(OK, &[a(www, 0, [192, 0, 2, 1])], &[]), addresses(&[[192, 0, 2, 1]], 0)),
        ("ttl 2^31 is 0", answer(OK, &[a(www, 1 << 31, [192, 0, 2, 1])], &[]), addresses(&[[192, 0, 2, 1]], 0)),
        ("no data for the soa's minimum", answer(OK, &[], &[soa("example.com", 300, 20)]), no_data(Some(20))),
        ("no data for the soa's ttl", answer(OK, &[], &[soa("example.com", 10, 20)]), no_data(Some(10))),
        ("a foreign soa says nothing", answer(OK, &[], &[soa("example.org", 10, 20)]), no_data(None)),
        ("no such name", answer(NXDOMAIN, &[], &[soa("com", 900, 900)]), no_name(Some(900))),
        (
            "an alias of no such name, as long as the alias lasts",
            answer(NXDOMAIN, &[cname(www, 7, "gone.test")], &[soa("test", 900, 900)]),
            no_name(Some(7)),
        ),
        ("SERVFAIL", answer(OK | 2, &[], &[]), Answer::Failed(Failure::ServFail)),
        ("REFUSED", answer(OK | 5, &[], &[]), Answer::Failed(Failure::Refused)),
        ("NOTIMP", answer(OK | 4, &[], &[]), Answer::Failed(Failure::NotImplemented)),
        ("a code nobody sends", answer(OK | 0xb, &[], &[]), Answer::Failed(Failure::Code(11))),
        ("FORMERR without a question", message(OK | 1, [0; 4], &[]), Answer::Failed(Failure::FormErr)),
        (
            "truncated in the middle of a record",
            message(OK | 0x0200, [1, 9, 0, 0], &[question(www, A), vec![0xc0]]),
            Answer::Truncated,
        ),
    ] {
        assert_eq!(asked().judge(ID, &bytes), expected, "{what}");
    }
}

#[test]
fn what_is_not_an_answer_is_ignored() {
    let www = "www.example.com";
    let good = answer(OK, &[a(www, 60, [192, 0, 2, 1])], &[]);
    assert_eq!(asked().judge(ID, &good), addresses(&[[192, 0, 2, 1]], 60));
    assert_eq!(asked().judge(ID + 1, &good), Answer::NotAnAnswer(Mismatch::Id));

    let pointer_to = |offset: u16, counts: [u16; 4], parts: &[Vec<u8>]| {
        message(OK, counts, &[parts, &[record(&(0xc000 | offset).to_be_bytes(), A, 60, &[192, 0, 2, 1])]].concat())
    };
    let record_at = 12 + question(www, A).len() as u16;
    for (what, bytes, expected) in [
        ("empty", vec![], Mismatch::Malformed),
        ("11 bytes", good[..11].to_vec(), Mismatch::Malformed),
        ("a query", answer(0x0100, &[], &[]), Mismatch::Kind),
        ("a notify", answer(OK | 0x2000, &[], &[]), Mismatch::Kind),
        ("no question", message(OK, [0, 0, 0, 0], &[]), Mismatch::Question),
        ("two questions", message(OK, [2, 0, 0, 0], &[question(www, A), question(www, A)]), Mismatch::Question),
        ("another name", message(OK, [1, 0, 0, 0], &[question("ww.example.com", A)]), Mismatch::Question),
        ("another type", message(OK, [1, 0, 0, 0], &[question(www, AAAA)]), Mismatch::Question),
        ("65535 answers promised", message(OK, [1, 65535, 0, 0], &[question(www, A)]), Mismatch::Malformed),
        ("a record cut short", good[..good.len() - 1].to_vec(), Mismatch::Malformed),
        ("an address of five octets", answer(OK, &[record(&wire_name(www), A, 60, &[1; 5])], &[]), Mismatch::Malformed),
        ("a name that points to itself", pointer_to(record_at, [1, 1, 0, 0], &[question(www, A)]), Mismatch::Malformed),
        (
            "a name that points forward",
            pointer_to(record_at + 9, [1, 1, 0, 0], &[question(www, A)]),
            Mismatch::Malformed,
        ),
        (
            "a question that points to itself",
            message(OK, [1, 0, 0, 0], &[vec![0xc0, 12, 0, 1, 0, 1]]),
            Mismatch::Malformed,
        ),
        ("a label of 64", message(OK, [1, 0, 0, 0], &[vec![64; 70]]), Mismatch::Malformed),
    ] {
        assert_eq!(asked().judge(ID, &bytes), Answer::NotAnAnswer(expected), "{what}");
    }
}

#[test]
fn mapped_addresses_are_the_ipv4_addresses_they_mean() {
    let question_v6 = Question::new(&Hostname::new("www.example.com").unwrap(), Family::V6);
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    let parts = [question("www.example.com", AAAA), record(&wire_name("www.example.com"), AAAA, 9, &mapped)];
    assert_eq!(question_v6.judge(ID, &message(OK, [1, 1, 0, 0], &parts)), addresses(&[[127, 0, 0, 1]], 9));
}

#[test]
fn queries_are_plain_recursive_questions() {
    let bytes = asked().encode(ID, Extension::Omit);
    assert_eq!(bytes, message(0x0100, [1, 0, 0, 0], &[question("www.example.com", A)]));

    let opt = [&[0][..], &41u16.to_be_bytes(), &UDP_PAYLOAD.to_be_bytes(), &[0; 6]].concat();
    let bytes = asked().encode(ID, Extension::Offer);
    assert_eq!(bytes, message(0x0100, [1, 0, 0, 1], &[question("www.example.com", A), opt]));

    // The longest name there is, and labels that a stricter reading of names would refuse.
    let label = "x".repeat(63);
    for name in [format!("{label}.{label}.{label}.{}", &label[..61]), "-a._b.c-".to_owned()] {
        let question = Question::new(&Hostname::new(&name).unwrap(), Family::V6);
        assert!(question.encode(ID, Extension::Offer).windows(3).any(|w| w == [0, 0, 28]), "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = asked().judge(ID, &bytes);
    }

    #[test]
    fn no_tail_after_a_good_question_makes_it_panic(
        flags in any::<u16>(),
        counts in any::<[u16; 3]>(),
        tail in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let counts = [1, counts[0], counts[1], counts[2]];
        let bytes = message(flags | 0x8000, counts, &[question("www.example.com", A), tail]);
        let _ = asked().judge(ID, &bytes);
    }
}
