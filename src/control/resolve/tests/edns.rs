//! Name servers that cannot do EDNS, each in its own way: names resolve all the same, as they do for applications.

use hickory_proto::op::ResponseCode;

use super::super::*;
use super::name_servers::{Bench, eventually, with_still_clock};

fn name(text: &str) -> Hostname {
    text.parse().unwrap()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

async fn settled(resolver: &Resolver) {
    eventually("every name has an outcome", || resolver.shared.unsettled.get() == 0).await;
}

#[test]
fn a_server_without_edns_is_asked_plainly() {
    let codes = [
        ResponseCode::FormErr,
        ResponseCode::NotImp,
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::NXDomain,
        ResponseCode::BADVERS,
    ];
    for code in codes {
        with_still_clock(|| async move {
            let bench = Bench::new(1, "options attempts:1", move |seen, _| match &seen.message.edns {
                Some(edns) if code == ResponseCode::BADVERS => {
                    let mut message = seen.reply();
                    message.metadata.response_code = code;
                    message.set_edns(edns.clone());
                    vec![message]
                }
                Some(_) => seen.code(code),
                None => seen.addresses(60, &["192.0.2.1"]),
            })
            .await;
            let resolver = bench.resolver();
            let cell = resolver.cell(&name("a.test"));
            settled(&resolver).await;
            assert_eq!(**cell.load(), ips(&["192.0.2.1"]), "{code}");
            let asked = bench.servers.count();
            let _next = resolver.cell(&name("b.test"));
            settled(&resolver).await;
            assert_eq!(bench.servers.count(), asked + 2, "{code}: it is asked plainly from now on");
        });
    }
}

#[test]
fn a_server_that_drops_edns_is_asked_plainly_the_next_time() {
    for attempts in [1, 2] {
        with_still_clock(|| async move {
            let extra = format!("options timeout:1 attempts:{attempts}");
            let bench = Bench::new(1, &extra, |seen, _| match seen.message.edns {
                Some(_) => Vec::new(),
                None => seen.addresses(60, &["192.0.2.1"]),
            })
            .await;
            let resolver = bench.resolver();
            let cell = resolver.cell(&name("a.test"));
            eventually("both families are asked for", || bench.servers.count() == 2).await;
            tokio::time::advance(Duration::from_secs(2)).await;
            settled(&resolver).await;
            assert_eq!(**cell.load(), ips(&["192.0.2.1"]));
            assert_eq!(bench.servers.count(), 4, "once more for each family");
            // The next name is not waited for.
            let next = resolver.cell(&name("b.test"));
            settled(&resolver).await;
            assert_eq!(**next.load(), ips(&["192.0.2.1"]));
            assert_eq!(bench.servers.count(), 6, "it is asked plainly from now on");
        });
    }
}
