//! DNS: what applications ask comes to egret, which answers for listed hosts and passes everything else on.
//!
//! Real clients (dig, getent, Python), a real name server (dnsmasq) and servers that misbehave, in network namespaces.

mod addresses;
mod clients;
mod flood;
mod policy;
mod servers;
mod tools;
mod upstream;

/// A ServiceEntry of one host.
pub fn entry(host: &str, port: &str, more: &str) -> String {
    let name = host.replace(['.', '*'], "-");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: x{name}x}}\nspec:\n  hosts: ['{host}']\n  \
         ports: [{port}]\n{more}---\n"
    )
}
