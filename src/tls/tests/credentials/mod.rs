//! Tests of credentials as operators keep them: keys and chains in every form, secrets under every name, rotation.

mod identities;
mod lookup;
mod rotation;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Location, Meta, Secret};
use crate::tls::tests::pki::{Authority, Leaf};
use crate::tls::*;

fn secret(name: &str, data: &[(&str, &[u8])]) -> Secret {
    let meta = Meta {
        name: name.to_owned(),
        namespace: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created_ms: None,
        at: Location { file: Arc::from(Path::new("secrets.yaml")), line: 1, column: 1 },
    };
    Secret { meta, data: data.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect() }
}

/// MUTUAL with everything from credential `name`.
fn mutual(name: &str) -> ProfileRequest {
    ProfileRequest {
        mode: ProfileMode::Mutual,
        identity: Some(IdentitySource::Credential(name.to_owned())),
        ..simple(TrustSource::Credential(name.to_owned()))
    }
}

fn simple(trust: TrustSource) -> ProfileRequest {
    ProfileRequest {
        mode: ProfileMode::Simple,
        trust,
        identity: None,
        names: NameCheck::ChainOnly,
        sni: SniSource::FromHost,
        alpn: Alpn::HTTP1,
    }
}

fn options() -> StoreOptions {
    StoreOptions { namespace: "default".to_owned(), ..StoreOptions::default() }
}
