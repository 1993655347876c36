//! The value of a header field with Envoy's command operators in it (`%DOWNSTREAM_REMOTE_ADDRESS%`), and what it becomes for
//! one request (`docs/root/configuration/observability/access_log/usage.rst` of Envoy).
//!
//! It knows the operators that mean something at a pod's egress, and says of others that it does not.

use std::borrow::Cow;
use std::net::SocketAddr;

/// A value that is different for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFormat(Vec<Piece>);

/// A field that is set (replacing) or added with such a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormattedField {
    pub name: String,
    pub adds: bool,
    pub format: HeaderFormat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Address(Whose, Part),
    Protocol,
    RouteName,
    Cluster,
    /// `REQ(name?other):length`; names in lower case.
    Request {
        name: String,
        other: Option<String>,
        length: Option<usize>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Application,
    Dialled,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    WithoutPort,
    Port,
}

/// What the operators ask for. The values of fields are as they were sent.
pub struct FormatFacts<'r> {
    pub application: SocketAddr,
    pub dialled: SocketAddr,
    /// `None` where no server is asked.
    pub server: Option<SocketAddr>,
    pub protocol: &'static str,
    pub route: Option<&'r str>,
    pub cluster: Option<&'r str>,
    /// Of the request, by lower-case name; with a colon before it, a part of its first line.
    pub field: &'r dyn Fn(&str) -> Option<Cow<'r, [u8]>>,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("a % has no second one: write %% for a percent sign")]
    Open,
    #[error("%{0}% has no meaning at a pod's egress, or is not supported: this field is left as it is")]
    Unknown(String),
}

impl HeaderFormat {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Self, FormatError> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            let behind = &rest[at + 1..];
            let end = behind.find('%').ok_or(FormatError::Open)?;
            if end == 0 {
                literal.push('%');
            } else {
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                let operator = &behind[..end];
                pieces.push(operator_piece(operator).ok_or_else(|| FormatError::Unknown(operator.to_owned()))?);
            }
            rest = &behind[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// The text, where it has no operators.
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The value for one request; `None` where nothing would stand in it, and the field is left out then.
    #[must_use]
    pub fn value(&self, facts: &FormatFacts<'_>) -> Option<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Address(whose, part) => {
                    let address = match whose {
                        Whose::Application => Some(facts.application),
                        Whose::Dialled => Some(facts.dialled),
                        Whose::Server => facts.server,
                    };
                    out.extend(address.map(|address| shown(address, *part)));
                }
                Piece::Protocol => out.push_str(facts.protocol),
                Piece::RouteName => out.extend(facts.route),
                Piece::Cluster => out.extend(facts.cluster),
                Piece::Request { name, other, length } => {
                    let value = (facts.field)(name).or_else(|| (facts.field)(other.as_ref()?));
                    let value = value.unwrap_or_default();
                    let kept = value.len().min(length.unwrap_or(usize::MAX));
                    out.push_str(&String::from_utf8_lossy(&value[..kept]));
                }
            }
        }
        let value = out.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }
}

fn shown(address: SocketAddr, part: Part) -> String {
    match part {
        Part::Whole => address.to_string(),
        Part::WithoutPort => address.ip().to_string(),
        Part::Port => address.port().to_string(),
    }
}

fn operator_piece(operator: &str) -> Option<Piece> {
    if let Some(of_request) = operator.strip_prefix("REQ(") {
        return request_piece(of_request);
    }
    let piece = match operator {
        "PROTOCOL" => Piece::Protocol,
        "ROUTE_NAME" => Piece::RouteName,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Piece::Cluster,
        "UPSTREAM_HOST" => Piece::Address(Whose::Server, Part::Whole),
        _ => {
            let ends = [
                ("DOWNSTREAM_REMOTE_", Whose::Application),
                ("DOWNSTREAM_DIRECT_REMOTE_", Whose::Application),
                ("DOWNSTREAM_LOCAL_", Whose::Dialled),
                ("UPSTREAM_REMOTE_", Whose::Server),
            ];
            let (whose, part) = ends.iter().find_map(|(start, whose)| Some((*whose, operator.strip_prefix(start)?)))?;
            let part = match part {
                "ADDRESS" => Part::Whole,
                "ADDRESS_WITHOUT_PORT" => Part::WithoutPort,
                "PORT" => Part::Port,
                _ => return None,
            };
            Piece::Address(whose, part)
        }
    };
    Some(piece)
}

/// `name?other):length`.
fn request_piece(text: &str) -> Option<Piece> {
    let (names, behind) = text.split_once(')')?;
    let length = match behind {
        "" => None,
        _ => Some(behind.strip_prefix(':')?.parse().ok()?),
    };
    let (name, other) = names.split_once('?').map_or((names, None), |(name, other)| (name, Some(other)));
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'(');
    (is_name(name) && other.is_none_or(is_name)).then(|| Piece::Request {
        name: name.to_ascii_lowercase(),
        other: other.map(str::to_ascii_lowercase),
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<String> {
        let field = |name: &str| match name {
            "x-a" => Some(Cow::Borrowed(&b"value"[..])),
            ":path" => Some(Cow::Borrowed(&b"/p?q"[..])),
            _ => None,
        };
        let facts = FormatFacts {
            application: "10.0.0.7:51230".parse().unwrap(),
            dialled: "[2001:db8::1]:80".parse().unwrap(),
            server: None,
            protocol: "HTTP/1.1",
            route: Some("main"),
            cluster: Some("outbound|80||a"),
            field: &field,
        };
        HeaderFormat::parse(text).unwrap().value(&facts)
    }

    #[test]
    fn operators_are_filled_in() {
        for (text, expected) in [
            ("plain", Some("plain")),
            ("100%%", Some("100%")),
            ("%%%DOWNSTREAM_REMOTE_PORT%%%", Some("%51230%")),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", Some("10.0.0.7:51230")),
            ("from %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%!", Some("from 10.0.0.7!")),
            ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", Some("2001:db8::1")),
            ("%DOWNSTREAM_LOCAL_ADDRESS% %PROTOCOL%", Some("[2001:db8::1]:80 HTTP/1.1")),
            ("%ROUTE_NAME% %UPSTREAM_CLUSTER%", Some("main outbound|80||a")),
            ("%REQ(X-A)%", Some("value")),
            ("%REQ(x-b?X-A):3%", Some("val")),
            ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", Some("/p?q")),
            // Nothing to say: no field.
            ("%REQ(x-b)%", None),
            ("%UPSTREAM_HOST%", None),
            ("[%UPSTREAM_HOST%]", Some("[]")),
        ] {
            assert_eq!(value(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        for (text, expected) in [
            ("100%", FormatError::Open),
            ("%PROTOCOL", FormatError::Open),
            ("%DYNAMIC_METADATA(a)%", FormatError::Unknown("DYNAMIC_METADATA(a)".into())),
            ("%REQ()%", FormatError::Unknown("REQ()".into())),
            ("%REQ(a):x%", FormatError::Unknown("REQ(a):x".into())),
            ("%UPSTREAM_REMOTE_NAME%", FormatError::Unknown("UPSTREAM_REMOTE_NAME".into())),
        ] {
            assert_eq!(HeaderFormat::parse(text), Err(expected), "{text}");
        }
        assert_eq!(HeaderFormat::parse("a%%b").unwrap().literal(), Some("a%b"));
        assert_eq!(HeaderFormat::parse("%PROTOCOL%").unwrap().literal(), None);
    }
}
