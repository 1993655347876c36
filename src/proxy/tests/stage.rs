//! A worker over the simulated network: a policy table of YAML, a context, connections accepted and served, the log.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

use super::talk::Talk;
use super::wire::Wire;
use crate::config;
use crate::flow::Hostname;
use crate::io::simulation::{World, simulate};
use crate::observe::{LogSink, WorkerCounters};
use crate::policy::publish::{Addresses, Published};
use crate::policy::{Materials, PolicyTable, Workload, compile};
use crate::proxy::{self, Context, Guard, Names};
use crate::tls::{ClientProfile, ProfileRequest, Store, StoreOptions};

/// By the simulated clock: more than any program waits for another.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What plays have in common: the configuration, the names' addresses, the outside's certificates.
pub(super) struct Site {
    pub(super) yaml: String,
    pub(super) names: BTreeMap<&'static str, Vec<IpAddr>>,
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Site {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Keys, numbers and signatures of one length: what is sent must follow from the seed.
        params.serial_number = Some(SerialNumber::from(77));
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { yaml: String::new(), names: BTreeMap::new(), folder, issuer: Issuer::new(params, key) }
    }

    /// Adds documents.
    pub(super) fn with(mut self, yaml: &str) -> Self {
        self.yaml += "---\n";
        self.yaml += yaml;
        self
    }

    /// A name of the outside.
    pub(super) fn naming(mut self, name: &'static str, addresses: &[&str]) -> Self {
        self.names.insert(name, addresses.iter().map(|text| text.parse().unwrap()).collect());
        self
    }

    /// The file with the certificate that the outside's are issued by.
    pub(super) fn ca_file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// What a server of `name` answers handshakes with.
    pub(super) fn server_config(&self, name: &str) -> Arc<ServerConfig> {
        self.server_config_of(name, rustls::ALL_VERSIONS)
    }

    /// In these versions alone.
    pub(super) fn server_config_of(
        &self,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(78));
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
    }

    pub(super) fn table(&self) -> PolicyTable {
        let loaded = config::load_text(Path::new("site.yaml"), &self.yaml);
        assert!(!loaded.has_errors(), "{:?}", loaded.problems);
        let mut store = Store::new(StoreOptions::default(), &[]);
        store.begin_round();
        compile(&loaded.resources, &Workload::default(), &mut Lent { store, names: &self.names }).0
    }

    /// Plays `programs` by `seed`, until the programs that it spawned have ended and everything is closed; returns what was
    /// logged, and what `programs` gave.
    pub(super) fn play<T>(&self, seed: u64, programs: impl AsyncFnOnce(&Stage) -> T) -> (Vec<String>, T) {
        let log = Log::default();
        let sink = LogSink::over(log.clone()).unwrap();
        let output = simulate(seed, async |world, listener| {
            let counters = Arc::new(WorkerCounters::default());
            let policy = Published::new(self.table());
            let context = Context::new(
                policy.clone(),
                Guard { own_ports: vec![15001], allow_loopback: false },
                Arc::clone(&counters),
                sink.clone(),
                Names::new(tokio::sync::mpsc::channel(1).0),
                seed,
            );
            let stage = Stage { world, context: Rc::new(context), policy, counters };
            let accepting = async {
                loop {
                    let (socket, context) = (listener.accept().await.unwrap(), Rc::clone(&stage.context));
                    crate::io::spawn(async move { proxy::serve(&context, socket).await });
                }
            };
            let performing = async {
                let output = programs(&stage).await;
                stage.world.ended().await;
                // Also who came and left before it was accepted has its line.
                let accepted = || stage.counters.connections_accepted.get();
                while accepted() < stage.world.applications.get() || stage.counters.connections_active.get() > 0 {
                    crate::io::sleep(Duration::from_millis(100)).await;
                }
                output
            };
            let output = future::or(performing, accepting).await;
            stage.context.access_log.flush();
            output
        });
        assert!(sink.flush(Duration::from_secs(600)), "the log is written");
        (log.lines(), output)
    }
}

/// What a play has.
pub(super) struct Stage {
    pub(super) world: Rc<World>,
    pub(super) context: Rc<Context>,
    pub(super) policy: Published<PolicyTable>,
    pub(super) counters: Arc<WorkerCounters>,
}

impl Stage {
    /// An application's connection to `original`.
    pub(super) fn connect(&self, original: &str) -> Talk {
        open(&self.world, original)
    }

    /// A program that must end within [`PATIENCE`]; what it waits for is `what`.
    pub(super) fn spawn(&self, what: impl Into<String>, program: impl Future<Output = ()> + 'static) {
        let (world, what) = (Rc::clone(&self.world), what.into());
        self.world.spawn(async move { patiently(&world, &what, program).await });
    }
}

/// An application's connection to `original`.
pub(super) fn open(world: &Rc<World>, original: &str) -> Talk {
    Talk::new(Wire::plain(world.connect(address(original))))
}

/// `future`, which must end within [`PATIENCE`] by the clock of `world`.
pub(super) async fn patiently<T>(world: &Rc<World>, what: &str, future: impl Future<Output = T>) -> T {
    let over = async {
        world.sleep(PATIENCE).await;
        panic!("after {PATIENCE:?} still not: {what}; {world}")
    };
    future::or(future, over).await
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A ServiceEntry of one HTTP port that leads to `target`.
pub(super) fn http_entry(host: &str, port: u16, target: u16) -> String {
    let name = host.replace('.', "-");
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{host}]
  ports: [{{number: {port}, name: http-{port}, protocol: HTTP, targetPort: {target}}}]
  resolution: DNS
"
    )
}

/// A DestinationRule with this trafficPolicy, in flow style.
pub(super) fn rule(host: &str, policy: &str) -> String {
    let name = host.replace('.', "-");
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {host}
  trafficPolicy: {policy}
"
    )
}

/// A VirtualService with one HTTP route to `host`, in flow style.
pub(super) fn route(host: &str, fields: &str) -> String {
    let name = host.replace('.', "-");
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{host}]
  http: [{{{fields}, route: [{{destination: {{host: {host}}}}}]}}]
"
    )
}

struct Lent<'n> {
    store: Store,
    names: &'n BTreeMap<&'static str, Vec<IpAddr>>,
}

impl Materials for Lent<'_> {
    fn profile(&mut self, wanted: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        self.store.profile(wanted)
    }

    fn addresses(&mut self, name: &Hostname) -> Addresses {
        Published::new(self.names.get(name.as_str()).cloned().unwrap_or_default())
    }
}

/// Where the access log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
