//! What the listener would answer, told to operators: of one name, and of all that have addresses.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::names::{Names, Unlisted};
use super::proxy::DnsProxy;
use crate::dns::name_table::{Found, is_within};
use crate::flow::Hostname;

/// Who answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answerer {
    /// egret.
    Table,
    /// A name server.
    Forwarded,
    /// Nobody: it does not exist for the pod.
    Refused,
}

/// What is answered for one name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NameAccount {
    pub name: String,
    pub answer: Answerer,
    /// In words.
    pub why: String,
    /// The listed name, where the one asked for has a search domain behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alias_of: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub name_servers: Vec<SocketAddr>,
}

/// All names with addresses, and how others are answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct DnsAccount {
    pub names: Vec<NameRow>,
    pub unlisted: Answerer,
    pub name_servers: Vec<SocketAddr>,
    /// `PLAIN` or `TLS`.
    pub transport: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NameRow {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

impl NameAccount {
    /// Lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { name, answer, why, alias_of, addresses, name_servers } = self;
        let answer = match answer {
            Answerer::Table => "egret: A and AAAA; HTTPS and SVCB are empty, the rest is a name server's",
            Answerer::Forwarded => "a name server's",
            Answerer::Refused => "NXDOMAIN",
        };
        let joined = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(" ") };
        let rows = [
            ("name", name.clone()),
            ("answer", answer.to_owned()),
            ("why", why.clone()),
            ("alias of", alias_of.clone().unwrap_or_else(|| "-".to_owned())),
            ("addresses", joined(addresses.iter().map(ToString::to_string).collect())),
            ("name servers", joined(name_servers.iter().map(ToString::to_string).collect())),
        ];
        rows.iter().fold(String::new(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key:<18} {value}");
            text
        })
    }
}

impl DnsProxy {
    /// What would be answered for `name` now.
    ///
    /// # Errors
    /// It is no name, or there is no policy yet.
    pub fn account_of(&self, name: &str) -> Result<NameAccount, String> {
        let host = Hostname::new(name).map_err(|error| format!("{name:?} is no host name: {error}"))?;
        let names = self.names().ok_or("there is no policy yet: every query gets SERVFAIL")?;
        let conf = self.conf();
        let search = conf.search.iter().map(Hostname::as_str);
        let is_in_cluster = is_within(host.as_str(), search.chain(["cluster.local"]));
        let (answer, why, alias, addresses) = match names.table.find(host.as_str(), &conf.search) {
            Found::Addresses { ips, alias } => {
                let why = "a ServiceEntry lists it, with addresses or automatic ones";
                (Answerer::Table, why, alias, ips.to_vec())
            }
            Found::Elsewhere => {
                (Answerer::Forwarded, "a ServiceEntry lists it, and has no address for it", None, Vec::new())
            }
            Found::Unlisted if names.unlisted == Unlisted::Forwarded => {
                (Answerer::Forwarded, "no ServiceEntry lists it", None, Vec::new())
            }
            Found::Unlisted if is_in_cluster => {
                let why = "no ServiceEntry lists it, and it is in a domain of the cluster or of resolv.conf";
                (Answerer::Forwarded, why, None, Vec::new())
            }
            Found::Unlisted => {
                (Answerer::Refused, "no ServiceEntry lists it (dnsPolicy ANSWER_LISTED_ONLY)", None, Vec::new())
            }
        };
        Ok(NameAccount {
            name: host.to_string(),
            answer,
            why: why.to_owned(),
            alias_of: alias.map(|alias| alias.to_string()),
            addresses,
            name_servers: conf.servers.clone(),
        })
    }

    /// Everything.
    #[must_use]
    pub fn account(&self) -> DnsAccount {
        let names = self.names();
        let rows = names.iter().flat_map(|names| rows(names)).collect();
        let refuses = names.is_some_and(|names| names.unlisted == Unlisted::Refused);
        DnsAccount {
            names: rows,
            unlisted: if refuses { Answerer::Refused } else { Answerer::Forwarded },
            name_servers: self.conf().servers.clone(),
            transport: if self.is_secure() { "TLS" } else { "PLAIN" }.to_owned(),
        }
    }
}

fn rows(names: &Names) -> Vec<NameRow> {
    let rows = names.table.rows().into_iter();
    rows.map(|(name, ips)| NameRow { name, addresses: ips.to_vec() }).collect()
}
