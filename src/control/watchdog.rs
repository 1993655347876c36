//! Notices workers that have stopped answering: stuck in a loop, or waiting for what never comes. Connections that the
//! kernel gives to such a worker would wait for ever, so a process that keeps one is ended and started anew.
//!
//! Time is counted in looks, not by the clock: a process that was stopped as a whole, or starved of CPU, has not looked
//! either. It refuses to know what a worker is.

/// Looks between two questions; at two looks a second, workers are woken every two seconds.
const LOOKS: u32 = 4;
/// Questions in a row without an answer after which a worker is given up: half a minute.
const GIVEN_UP: u32 = 15;

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// Nothing to do.
    Rest,
    /// Ask every worker to say this number.
    Ask(u64),
    /// So many workers have not said the number yet. New since the last look?
    Silent { workers: usize, news: bool },
    /// Some have not for so long that they never will.
    GivenUp,
}

#[derive(Debug, Default)]
pub(super) struct Watchdog {
    asked: u64,
    looks: u32,
    missed: u32,
    silent: usize,
}

impl Watchdog {
    /// Looks at the latest number that each worker has said.
    pub(super) fn look(&mut self, heard: impl Iterator<Item = u64>) -> Observation {
        self.looks += 1;
        if self.looks < LOOKS {
            return Observation::Rest;
        }
        self.looks = 0;
        let before = std::mem::replace(&mut self.silent, heard.filter(|heard| *heard < self.asked).count());
        if self.silent == 0 {
            (self.asked, self.missed) = (self.asked + 1, 0);
            return Observation::Ask(self.asked);
        }
        self.missed += 1;
        if self.missed >= GIVEN_UP {
            return Observation::GivenUp;
        }
        Observation::Silent { workers: self.silent, news: self.silent != before }
    }

    /// Workers that did not answer when last looked at.
    pub(super) fn silent(&self) -> usize {
        self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next finding that is not rest.
    fn next(watchdog: &mut Watchdog, heard: [u64; 2]) -> Observation {
        let looks: Vec<Observation> = (0..LOOKS).map(|_| watchdog.look(heard.into_iter())).collect();
        assert!(looks[..LOOKS as usize - 1].iter().all(|look| *look == Observation::Rest), "{looks:?}");
        looks[LOOKS as usize - 1]
    }

    #[test]
    fn who_answers_is_asked_again_and_who_does_not_is_given_up() {
        let mut watchdog = Watchdog::default();
        assert_eq!(next(&mut watchdog, [0, 0]), Observation::Ask(1));
        assert_eq!(next(&mut watchdog, [1, 1]), Observation::Ask(2));
        assert_eq!(next(&mut watchdog, [2, 1]), Observation::Silent { workers: 1, news: true });
        assert_eq!(
            (next(&mut watchdog, [2, 1]), watchdog.silent()),
            (Observation::Silent { workers: 1, news: false }, 1)
        );
        assert_eq!((next(&mut watchdog, [2, 2]), watchdog.silent()), (Observation::Ask(3), 0), "a late answer will do");
        for question in 1..GIVEN_UP {
            assert_eq!(next(&mut watchdog, [2, 2]), Observation::Silent { workers: 2, news: question == 1 });
        }
        assert_eq!(next(&mut watchdog, [2, 3]), Observation::GivenUp);
    }
}
