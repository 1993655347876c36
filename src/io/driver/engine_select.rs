//! Which engine this host gets, and why: io_uring where everything that it needs really works, epoll elsewhere.
//!
//! It tries ([`probe`]) instead of reading versions. It refuses to know who asks and what becomes of the reason.

use crate::io::bounds::EngineKind;
use crate::io::driver::probe::{EngineError, probe};

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineSelection {
    /// io_uring if this host can, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll, whatever the host can.
    Epoll,
}

/// The engine of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedEngine {
    pub kind: EngineKind,
    /// Why this one, for people.
    pub reason: String,
}

/// Decides.
///
/// # Errors
/// io_uring is demanded and this host cannot have it: why, and what to do.
pub fn select_engine(selection: EngineSelection) -> Result<SelectedEngine, EngineError> {
    let chosen = |kind, reason| Ok(SelectedEngine { kind, reason });
    match selection {
        EngineSelection::Epoll => chosen(EngineKind::Epoll, "chosen by --engine epoll".to_owned()),
        EngineSelection::Uring => {
            let features = probe()?;
            chosen(EngineKind::Uring, format!("chosen by --engine uring; {features}"))
        }
        EngineSelection::Auto => match probe() {
            Ok(features) => chosen(EngineKind::Uring, format!("this host allows io_uring; {features}")),
            Err(error) => chosen(EngineKind::Epoll, error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_who_chose() {
        let epoll = select_engine(EngineSelection::Epoll).unwrap();
        assert_eq!((epoll.kind, epoll.reason.contains("--engine epoll")), (EngineKind::Epoll, true));
        let uring = select_engine(EngineSelection::Uring).unwrap();
        assert_eq!((uring.kind, uring.reason.contains("--engine uring")), (EngineKind::Uring, true));
    }
}
