//! What of a head goes on to the other side: everything as it was written, hop-by-hop fields apart (RFC 9110 §7.6.1).

use super::edits::{FieldEdits, RequestEdits};
use super::fields::{ConnectionOption, Name, is_end_to_end};
use super::grammar::members;
use super::head::{Field, Version, fields};
use super::request::RequestHead;
use super::response::{ClientContext, ResponseHead};
use super::target::TargetForm;

impl RequestHead {
    /// Whether the head goes upstream byte for byte, so that nothing has to be copied.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        self.verbatim
    }

    /// Appends to `out` the head that goes upstream; `raw` is what was parsed.
    ///
    /// Absolute form becomes origin form, with the authority of the target in Host (RFC 9112 §3.2.2); it stays where
    /// [`RequestEdits::keeps_form`] says that a forward proxy is to read it.
    pub fn write_to(&self, raw: &[u8], out: &mut Vec<u8>) {
        self.write_edited(raw, RequestEdits::default(), out);
    }

    /// [`write_to`](Self::write_to) with these changes.
    pub fn write_edited(&self, raw: &[u8], edits: RequestEdits<'_>, out: &mut Vec<u8>) {
        if self.verbatim && edits.is_empty() {
            return out.extend_from_slice(&raw[..self.length]);
        }
        out.reserve(self.length + 16);
        let written = self.authority_text.map(|at| at.of(raw)).unwrap_or_default();
        let named = edits.authority.map_or(written, str::as_bytes);
        let is_absolute = self.form == TargetForm::Absolute;
        let renames = is_absolute || edits.authority.is_some();
        let keeps_form = is_absolute && edits.keeps_form;
        if keeps_form && edits.path.is_none() && edits.authority.is_none() {
            out.extend_from_slice(&raw[self.start..self.fields_at]);
        } else if renames || edits.path.is_some() {
            out.extend_from_slice(self.method_text.of(raw));
            out.push(b' ');
            if keeps_form {
                out.extend_from_slice(b"http://");
                out.extend_from_slice(named);
            }
            // Between the authority and a query stands a path, if only an empty one.
            let path = edits.path.or(self.path(raw)).unwrap_or(b"/");
            out.extend_from_slice(if path.starts_with(b"?") { b"/" } else { b"" });
            out.extend_from_slice(path);
            out.push(b' ');
            write_line(out, &[self.version.as_str().as_bytes()]);
        } else {
            out.extend_from_slice(&raw[self.start..self.fields_at]);
        }
        if renames && self.host.is_none() && !named.is_empty() {
            write_line(out, &[b"Host: ", named]);
        }
        let passing = Passing {
            keep_alive: true,
            te: self.keeps_te,
            upgrade: self.upgrade.is_some(),
            length: true,
            coding: true,
        };
        passing.write_fields(raw, self.fields_at, out, |field, out| {
            let rewrites_host = renames && Name::of(field.name) == Name::Host;
            if rewrites_host {
                write_line(out, &[field.name, b": ", named]);
            }
            rewrites_host || edits.drops(field.name)
        });
        edits.write_fields(out);
        out.extend_from_slice(b"\r\n");
    }
}

impl ResponseHead {
    /// Whether the head goes to `client` byte for byte.
    #[must_use]
    pub fn is_verbatim(&self, client: ClientContext) -> bool {
        let says_nothing = self.connection_line(client).is_empty();
        self.plain && says_nothing && !(self.is_coded && client.version == Version::Http10)
    }

    /// Appends to `out` the head that `client` gets; `raw` is what was parsed. The body must be sent as
    /// [`delivery`](ResponseHead::delivery) says.
    pub fn write_to(&self, raw: &[u8], out: &mut Vec<u8>, client: ClientContext) {
        self.write_edited(raw, &FieldEdits::default(), out, client);
    }

    /// [`write_to`](Self::write_to) with these changes.
    pub fn write_edited(&self, raw: &[u8], edits: &FieldEdits, out: &mut Vec<u8>, client: ClientContext) {
        if self.is_verbatim(client) && edits.is_empty() {
            return out.extend_from_slice(&raw[..self.length]);
        }
        out.reserve(self.length + 32);
        // RFC 9110 §2.5: an intermediary sends its own version.
        out.extend_from_slice(Version::Http11.as_str().as_bytes());
        out.extend_from_slice(&raw[Version::Http11.as_str().len()..self.fields_at]);
        let passing = Passing {
            keep_alive: false,
            te: false,
            upgrade: self.keeps_upgrade,
            length: !self.drops_framing,
            coding: !self.drops_framing && client.version == Version::Http11,
        };
        passing.write_fields(raw, self.fields_at, out, |field, _| edits.drops(field.name));
        edits.write(out);
        out.extend_from_slice(self.connection_line(client));
        out.extend_from_slice(b"\r\n");
    }

    /// What egret itself says about the client's connection.
    fn connection_line(&self, client: ClientContext) -> &'static [u8] {
        match (self.delivery(client).keep_alive, client.version) {
            _ if self.status < 200 || self.is_upgrade => b"",
            (false, _) => b"Connection: close\r\n",
            (true, Version::Http10) => b"Connection: keep-alive\r\n",
            (true, Version::Http11) => b"",
        }
    }
}

/// Which of the fields that speak of a connection may pass.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
struct Passing {
    /// The option `keep-alive`. It passes to upstreams, where egret wants the same, so that the many clients which
    /// always send it need no rewriting; what a client is told about its connection is egret's own word.
    keep_alive: bool,
    /// The field TE, and the option that must go with it (RFC 9110 §10.1.4).
    te: bool,
    /// The field Upgrade, and the option that must go with it (RFC 9110 §7.8).
    upgrade: bool,
    length: bool,
    coding: bool,
}

impl Passing {
    /// Appends what passes of the fields at `at`. `replace` may write another line in the place of a field.
    fn write_fields(
        &self,
        raw: &[u8],
        at: usize,
        out: &mut Vec<u8>,
        replace: impl Fn(&Field<'_>, &mut Vec<u8>) -> bool,
    ) {
        let connections = fields(raw, at).filter(|field| Name::of(field.name) == Name::Connection);
        let named: Vec<&[u8]> = connections.flat_map(|field| members(field.value)).collect();
        for field in fields(raw, at) {
            if Name::of(field.name) == Name::Connection {
                self.write_connection(&field, out);
            } else if !replace(&field, out) && self.passes(&field, &named) {
                write_line(out, &[field.line]);
            }
        }
    }

    fn passes(&self, field: &Field<'_>, named: &[&[u8]]) -> bool {
        match Name::of(field.name) {
            Name::Te => self.te,
            Name::Upgrade => self.upgrade,
            Name::HopByHop | Name::KeepAlive => false,
            Name::ContentLength => self.length,
            Name::TransferEncoding => self.coding,
            _ => is_end_to_end(field.name) || !named.iter().any(|option| option.eq_ignore_ascii_case(field.name)),
        }
    }

    /// The options that pass, in a field of the same name; nothing when none does.
    fn write_connection(&self, field: &Field<'_>, out: &mut Vec<u8>) {
        let mut separator: &[u8] = b": ";
        for option in members(field.value).filter(|option| self.passes_option(option)) {
            out.extend_from_slice(if separator == b": " { field.name } else { b"" });
            out.extend_from_slice(separator);
            out.extend_from_slice(option);
            separator = b", ";
        }
        if separator == b", " {
            out.extend_from_slice(b"\r\n");
        }
    }

    fn passes_option(&self, option: &[u8]) -> bool {
        match ConnectionOption::of(option) {
            ConnectionOption::KeepAlive => self.keep_alive,
            ConnectionOption::Te => self.te,
            ConnectionOption::Upgrade => self.upgrade,
            ConnectionOption::Close | ConnectionOption::Other => false,
        }
    }
}

fn write_line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}
