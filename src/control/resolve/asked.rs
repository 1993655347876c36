//! Names that workers ask for when a request tells them: looked up once for all workers, kept current while somebody asks,
//! forgotten afterwards.
//!
//! They are strangers: applications choose them. So there are at most [`MOST`], they are looked up a few at a time
//! beside those of the policy, and one that has no address is the first to go.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Entry, Resolver, Shared};
use crate::flow::Hostname;
use crate::proxy::{Answer, Crowded, Question, RENEW};

/// Names that workers have asked for and that are kept: as many as Envoy keeps.
const MOST: usize = 1024;
/// Workers that may wait for the first answer for one name.
const MOST_WAITING: usize = 1024;
/// A name that nobody asked for during this time is not looked up again.
pub(super) const IDLE: Duration = Duration::from_secs(300);
/// No worker uses an answer that it was given longer ago than this.
const UNUSED: Duration = Duration::from_secs(2 * RENEW.as_secs());

/// That workers have asked for a name.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) last: Instant,
    pub(super) waiting: Vec<oneshot::Sender<Answer>>,
}

impl Resolver {
    /// Answers questions until nobody can ask any more, on a task of its own.
    ///
    /// # Panics
    /// Outside a tokio `LocalSet`.
    pub fn answer(&self, mut questions: mpsc::Receiver<Question>) {
        let shared = Rc::clone(&self.shared);
        tokio::task::spawn_local(async move {
            while let Some(question) = questions.recv().await {
                shared.asked(question);
            }
        });
    }
}

impl Shared {
    fn asked(self: &Rc<Self>, Question { name, answer }: Question) {
        let mut names = self.names.borrow_mut();
        if !names.contains_key(&name) {
            if !make_room(&mut names) {
                // A worker that no longer waits needs no answer.
                let _ = answer.send(Err(Crowded));
                return;
            }
            names.insert(name.clone(), Entry::new(self, &name));
        }
        let entry = names.get_mut(&name).expect("it was there or has been made");
        let asked = entry.asked.get_or_insert_with(|| Asked { last: Instant::now(), waiting: Vec::new() });
        asked.last = Instant::now();
        if entry.settled {
            let _ = answer.send(Ok(entry.cell.clone()));
            return;
        }
        asked.waiting.retain(|other| !other.is_closed());
        if asked.waiting.len() < MOST_WAITING {
            asked.waiting.push(answer);
        } else {
            let _ = answer.send(Err(Crowded));
        }
    }
}

/// Whether there is room for another name; one without an address, or that nobody uses, makes it.
fn make_room(names: &mut BTreeMap<Hostname, Entry>) -> bool {
    let now = Instant::now();
    let strangers = || names.iter().filter(|(_, entry)| !entry.listed);
    if strangers().count() < MOST {
        return true;
    }
    let spare = |entry: &Entry| {
        let last = entry.asked.as_ref().map(|asked| asked.last);
        let is_unused = last.is_none_or(|last| now.saturating_duration_since(last) > UNUSED);
        (entry.settled && (is_unused || entry.cell.load().is_empty())).then_some(last)
    };
    let oldest =
        strangers().filter_map(|(name, entry)| Some((spare(entry)?, name))).min().map(|(_, name)| name.clone());
    oldest.is_some_and(|name| names.remove(&name).is_some())
}

impl Entry {
    /// Whether the policy has the name, or workers still ask for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.listed || self.asked.as_ref().is_some_and(|asked| asked.last.elapsed() < IDLE)
    }

    /// Tells those who wait that the first look-up is over.
    pub(super) fn tell_askers(&mut self) {
        let waiting = self.asked.as_mut().map(|asked| std::mem::take(&mut asked.waiting)).unwrap_or_default();
        for answer in waiting {
            let _ = answer.send(Ok(self.cell.clone()));
        }
    }
}
