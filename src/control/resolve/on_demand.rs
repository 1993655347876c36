//! Names that workers ask for when a request tells them: looked up once for all workers, kept current while somebody asks,
//! forgotten afterwards.
//!
//! They are strangers: applications choose them. So there are at most [`MOST`], they are looked up a few at a time
//! beside those of the policy, and one that has no address is the first to go.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::entry::{Asked, Entry};
use super::{Resolver, Shared};
use crate::flow::Hostname;
use crate::proxy::{Crowded, Question, RENEW};

/// Names that workers have asked for and that are kept: as many as Envoy keeps.
const MOST: usize = 1024;
/// Workers that may wait for the first answer for one name.
const MOST_WAITING: usize = 1024;
/// No worker uses an answer that it was given longer ago than this.
const UNUSED: Duration = Duration::from_secs(2 * RENEW.as_secs());

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
            names.insert(name.clone(), self.start(&name));
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
