//! Somebody whom the rules do not exempt: what verification connects and asks as.
//!
//! The rules match the filesystem identity of the thread that makes a socket, which a thread may have for itself.

use std::thread;

use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};

use super::RedirectError;
use super::capture::Capture;

/// What `act` gives on a thread of its own that the rules do not exempt.
pub fn as_stranger<T: Send + 'static>(
    capture: &Capture,
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RedirectError> {
    let stranger = stranger(capture)?;
    let acting = thread::spawn(move || stranger.become_it().then(act));
    let done = acting.join().map_err(|_| failed("the thread that dials ended unexpectedly".into()))?;
    done.ok_or_else(|| {
        failed(
            "this process runs as a user or group that the rules exempt and may not take another (CAP_SETUID, \
             CAP_SETGID): run `egret init` as a user other than the proxy's, or with --no-verify"
                .into(),
        )
    })
}

fn failed(text: String) -> RedirectError {
    RedirectError::Verification(text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stranger {
    uid: Option<Uid>,
    gid: Option<Gid>,
}

/// What has to change so that the rules do not exempt this process: often nothing.
fn stranger(capture: &Capture) -> Result<Stranger, RedirectError> {
    let unused = |taken: &[u32]| (1..u32::from(u16::MAX)).rev().find(|id| !taken.contains(id));
    let other = |own: u32, taken: &[u32]| {
        if !taken.contains(&own) {
            return Ok(None);
        }
        unused(taken).map(Some).ok_or_else(|| failed("every user or group is exempt".into()))
    };
    let uid = other(geteuid().as_raw(), &capture.proxy_uids)?.map(Uid::from_raw);
    let gid = other(getegid().as_raw(), &capture.proxy_gids)?.map(Gid::from_raw);
    Ok(Stranger { uid, gid })
}

impl Stranger {
    /// The calls report the previous identity and nothing else, so success shows only in a second call; the group
    /// first, since leaving uid 0 drops the capability for it.
    fn become_it(self) -> bool {
        let gid = self.gid.is_none_or(|gid| {
            setfsgid(gid);
            setfsgid(Gid::from_raw(u32::MAX)) == gid
        });
        gid && self.uid.is_none_or(|uid| {
            setfsuid(uid);
            setfsuid(Uid::from_raw(u32::MAX)) == uid
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::capture::sample;
    use super::*;

    #[test]
    fn only_an_exempt_identity_is_changed() {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let exempt = Capture { proxy_uids: vec![uid, 65534], proxy_gids: vec![1], ..sample() };
        let stranger = stranger(&exempt).unwrap();
        assert_eq!(stranger.uid, Some(Uid::from_raw(65533)));
        assert_eq!(stranger.gid.is_some(), gid == 1);
        let other = Capture { proxy_uids: vec![uid + 1], proxy_gids: vec![gid + 1], ..sample() };
        assert_eq!(super::stranger(&other).unwrap(), Stranger { uid: None, gid: None });
    }
}
