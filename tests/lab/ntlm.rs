//! A server that authenticates TCP connections, as those of Windows do: by NTLM's three messages ([MS-NLMP] §1.3.1.1), or
//! by Negotiate in one (RFC 4559). Whatever follows on the connection is answered in that user's name. Passwords are not
//! looked at.

use std::io::{self, Read, Write};

use data_encoding::BASE64;

use super::server::{HttpServer, Request};

/// What nobody has to authenticate for.
pub const OPEN: &str = "/open";

/// Who is answered where nobody has authenticated.
pub const NOBODY: &str = "nobody";

const SIGNATURE: &[u8] = b"NTLMSSP\0";
const FIRST: u32 = 1;
const SECOND: u32 = 2;
const THIRD: u32 = 3;

/// Where the third message has the user's name: its length, and its place.
const USER: (usize, usize) = (36, 40);

fn message(kind: u32, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &kind.to_le_bytes(), rest].concat()
}

/// The client's first message, as it stands in a field.
pub fn first() -> String {
    // It negotiates NTLM and OEM strings.
    format!("NTLM {}", BASE64.encode(&message(FIRST, &[&0x202_u32.to_le_bytes()[..], &[0; 16]].concat())))
}

/// The client's last message.
pub fn third(user: &str) -> String {
    const HEADER: u32 = 64;
    let length = u16::try_from(user.len()).expect("a short name").to_le_bytes();
    let mut fields = vec![0; HEADER as usize - SIGNATURE.len() - 4];
    let at = USER.0 - 12;
    fields[at..at + 2].copy_from_slice(&length);
    fields[at + 2..at + 4].copy_from_slice(&length);
    fields[at + 4..at + 8].copy_from_slice(&HEADER.to_le_bytes());
    format!("NTLM {}", BASE64.encode(&[message(THIRD, &fields), user.as_bytes().to_vec()].concat()))
}

fn second() -> Vec<u8> {
    const HEADER: u32 = 48;
    // No target name; NTLM, OEM strings; a challenge, eight bytes that are reserved, and no target information.
    let name = [&[0; 4][..], &HEADER.to_le_bytes()].concat();
    message(SECOND, &[&name[..], &0x202_u32.to_le_bytes(), b"challeng", &[0; 8], &name].concat())
}

/// The name in a third message; wide characters where the client uses them.
fn user_of(message: &[u8]) -> Option<String> {
    let length = u16::from_le_bytes(message.get(USER.0..USER.0 + 2)?.try_into().ok()?);
    let at = u32::from_le_bytes(message.get(USER.1..USER.1 + 4)?.try_into().ok()?) as usize;
    let name = message.get(at..at + usize::from(length))?;
    Some(name.iter().filter(|byte| **byte != 0).map(|byte| char::from(*byte)).collect())
}

/// What became of a request's credentials.
enum Told {
    Nothing,
    Challenge(Vec<u8>),
    User(String),
    /// A third message without a second one on this connection.
    Astray,
}

fn told(request: &Request, field: &str, is_challenged: bool) -> Told {
    let Some((scheme, value)) = request.head.field(field).and_then(|value| value.split_once(' ')) else {
        return Told::Nothing;
    };
    let Ok(message) = BASE64.decode(value.trim().as_bytes()) else { return Told::Nothing };
    match (scheme, message.get(8..12)) {
        ("Negotiate", _) => Told::User(String::from_utf8_lossy(&message).into_owned()),
        ("NTLM", Some(kind)) if kind == FIRST.to_le_bytes() => Told::Challenge(second()),
        ("NTLM", Some(kind)) if kind == THIRD.to_le_bytes() && is_challenged => {
            user_of(&message).map_or(Told::Astray, Told::User)
        }
        ("NTLM", _) => Told::Astray,
        _ => Told::Nothing,
    }
}

/// Serves a connection. As a proxy (`asks` is 407) it looks at other fields.
pub fn serve(stream: impl Read + Write, asks: u16) -> io::Result<()> {
    let (credentials, challenge) = match asks {
        407 => ("proxy-authorization", "Proxy-Authenticate"),
        _ => ("authorization", "WWW-Authenticate"),
    };
    let (mut server, mut user, mut is_challenged) = (HttpServer::new(stream), None, false);
    while let Some(request) = server.request()? {
        let (mut status, mut fields) = (200, String::new());
        match told(&request, credentials, is_challenged) {
            Told::User(name) => user = Some(name),
            Told::Challenge(message) => {
                (status, is_challenged) = (asks, true);
                fields = format!("{challenge}: NTLM {}\r\n", BASE64.encode(&message));
            }
            Told::Astray => status = 400,
            Told::Nothing if user.is_none() && !request.target.starts_with(OPEN) => {
                (status, fields) = (asks, format!("{challenge}: Negotiate\r\n{challenge}: NTLM\r\n"));
            }
            Told::Nothing => {}
        }
        let body = user.as_deref().unwrap_or(NOBODY);
        let length = body.len();
        let keeps = if request.head.text.contains("HTTP/1.0") { "Connection: keep-alive\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} x\r\n{fields}{keeps}Content-Length: {length}\r\n\r\n");
        server.send((head + body).as_bytes())?;
        if request.target.ends_with("/leave") {
            return Ok(());
        }
    }
    Ok(())
}
