//! A real forward proxy outside: Apache with mod_proxy_connect, plain on one port and over TLS on another.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::pki::PairFiles;
use super::process::Kept;
use super::{Lab, eventually, utf8};

/// Speaks plain HTTP.
pub const PLAIN: u16 = 3128;
/// Speaks HTTP over TLS.
pub const SECURE: u16 = 3129;

pub struct ForwardProxy {
    process: Kept,
    log: PathBuf,
}

impl ForwardProxy {
    /// Starts Apache on `address`; it connects to port 443 and to `also`, and to no other.
    pub fn start(lab: &Lab, address: IpAddr, pair: &PairFiles, also: u16) -> ForwardProxy {
        let log = lab.dir().join("forward.access");
        let config = lab.write("forward.conf", &configuration(lab, address, pair, also));
        let arguments = ["--pdeathsig=TERM", "--", "apache2", "-D", "FOREGROUND", "-f", utf8(&config)];
        let mut process = Kept::start(lab.outside.command("setpriv", &arguments), lab.dir(), "forward");
        let errors = || fs::read_to_string(lab.dir().join("forward.errors")).unwrap_or_default();
        for port in [PLAIN, SECURE] {
            eventually("the forward proxy accepts connections", || {
                assert!(process.ended().is_none(), "apache2 ended: {}{}", process.stderr(), errors());
                lab.outside.enter(|| std::net::TcpStream::connect(SocketAddr::new(address, port))).is_ok()
            });
        }
        ForwardProxy { process, log }
    }

    /// What it was asked and how it answered, `CONNECT a:443 HTTP/1.1 200`, in the order in which connections ended.
    pub fn seen(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.starts_with("CONNECT")).map(str::to_owned).collect()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: the parent takes its children with it.
        self.process.end_with_children();
    }
}

fn configuration(lab: &Lab, address: IpAddr, pair: &PairFiles, also: u16) -> String {
    let folder = utf8(lab.dir());
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_connect", "ssl"];
    let modules: Vec<_> =
        modules.iter().map(|name| format!("LoadModule {name}_module modules/mod_{name}.so")).collect();
    let (modules, certificate, key) = (modules.join("\n"), utf8(&pair.certificate), utf8(&pair.key));
    let proxy = format!(
        "ProxyRequests On
ProxyVia Off
AllowCONNECT 443 {also}
CustomLog {folder}/forward.access lab
<Proxy \"*\">
  Require all granted
</Proxy>"
    );
    format!(
        "ServerRoot /usr/lib/apache2
ServerName forward
PidFile {folder}/forward.pid
ErrorLog {folder}/forward.errors
User #65534
Group #65534
StartServers 1
{modules}
LogFormat \"%r %>s\" lab
Listen {address}:{PLAIN}
Listen {address}:{SECURE} https
<VirtualHost {address}:{PLAIN}>
{proxy}
</VirtualHost>
<VirtualHost {address}:{SECURE}>
SSLEngine on
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
{proxy}
</VirtualHost>
"
    )
}
