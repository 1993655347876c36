//! A hierarchical timer wheel. Pure: time is a number of ticks that the caller passes in.
//!
//! Setting and clearing an alarm take constant time, which matters because nearly every alarm of a proxy is cleared
//! before it goes off. Eight levels of 64 slots; a slot of level n spans 64ⁿ ticks. An alarm stands on the level of the
//! highest group of six bits in which its time differs from the present, so everything on a level comes before
//! everything on the levels above it. Each slot remembers a lower bound of its alarms' times, so [`Wheel::next`] is not
//! merely the start of a slot and an idle engine is not woken just to move alarms down a level.

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 8;
/// The last tick that can be told apart: 2⁴⁸ − 1 (in milliseconds: nine thousand years).
const LAST: u64 = (1 << (BITS * LEVELS as u32)) - 1;
const NONE: u32 = u32::MAX;

/// Names an alarm that was set. Never reused: clearing one that has gone off does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AlarmKey {
    index: u32,
    generation: u32,
}

pub(crate) struct Wheel<T> {
    alarms: Vec<Entry<T>>,
    free: u32,
    levels: Box<[Level; LEVELS]>,
    now: u64,
    set: usize,
}

struct Entry<T> {
    generation: u32,
    previous: u32,
    next: u32,
    level: u8,
    slot: u8,
    when: u64,
    item: Option<T>,
}

#[derive(Clone, Copy)]
struct Level {
    occupied: u64,
    first: [u32; SLOTS],
    earliest: [u64; SLOTS],
}

impl<T> Wheel<T> {
    /// A wheel at tick 0.
    pub(crate) fn new() -> Self {
        let level = Level { occupied: 0, first: [NONE; SLOTS], earliest: [u64::MAX; SLOTS] };
        Self { alarms: Vec::new(), free: NONE, levels: Box::new([level; LEVELS]), now: 0, set: 0 }
    }

    /// Alarms that are set.
    pub(crate) fn len(&self) -> usize {
        self.set
    }

    /// Sets an alarm; one in the past goes off at the next [`advance`](Self::advance).
    pub(crate) fn insert(&mut self, when: u64, item: T) -> AlarmKey {
        let index = self.allocate();
        let alarm = &mut self.alarms[index as usize];
        alarm.when = when.min(LAST);
        alarm.item = Some(item);
        let generation = alarm.generation;
        self.set += 1;
        self.link(index);
        AlarmKey { index, generation }
    }

    /// Clears an alarm and returns its item, if it has not gone off.
    pub(crate) fn remove(&mut self, key: AlarmKey) -> Option<T> {
        self.alarm(key)?;
        self.unlink(key.index);
        Some(self.release(key.index))
    }

    /// The item of an alarm that has not gone off.
    pub(crate) fn item_mut(&mut self, key: AlarmKey) -> Option<&mut T> {
        self.alarm(key)?.item.as_mut()
    }

    /// No alarm goes off before this tick. Exact, unless the earliest alarm of a far slot was cleared.
    pub(crate) fn next(&self) -> Option<u64> {
        let (level, slot) = self.first_slot()?;
        Some(self.levels[level].earliest[slot].max(self.now))
    }

    /// Moves the present to `now` and appends the items of all alarms up to then to `due`, by time of their tick.
    pub(crate) fn advance(&mut self, now: u64, due: &mut Vec<T>) {
        let now = now.min(LAST);
        while let Some((level, slot)) = self.first_slot() {
            let start = self.slot_start(level, slot);
            if start > now {
                break;
            }
            self.now = self.now.max(start);
            self.empty_slot(level, slot, due);
        }
        self.now = self.now.max(now);
    }

    /// Takes a slot's alarms: those of level 0 are due, others move to lower levels.
    fn empty_slot(&mut self, level: usize, slot: usize, due: &mut Vec<T>) {
        let mut index = self.levels[level].first[slot];
        self.levels[level].clear(slot);
        while index != NONE {
            let next = self.alarms[index as usize].next;
            if level == 0 {
                due.push(self.release(index));
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    fn alarm(&mut self, key: AlarmKey) -> Option<&mut Entry<T>> {
        let alarm = self.alarms.get_mut(key.index as usize)?;
        (alarm.generation == key.generation && alarm.item.is_some()).then_some(alarm)
    }

    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        Some((level, self.levels[level].occupied.trailing_zeros() as usize))
    }

    fn slot_start(&self, level: usize, slot: usize) -> u64 {
        let shift = BITS * level as u32;
        let above = self.now >> (shift + BITS) << (shift + BITS);
        above | (slot as u64) << shift
    }

    fn link(&mut self, index: u32) {
        let now = self.now;
        let alarm = &mut self.alarms[index as usize];
        let when = alarm.when.max(now);
        let differing = (when ^ now) | 1;
        let level = (differing.ilog2() / BITS) as usize;
        let slot = (when >> (BITS * level as u32)) as usize % SLOTS;
        let place = &mut self.levels[level];
        (alarm.level, alarm.slot) = (level as u8, slot as u8);
        (alarm.previous, alarm.next) = (NONE, place.first[slot]);
        let next = std::mem::replace(&mut place.first[slot], index);
        place.occupied |= 1 << slot;
        place.earliest[slot] = place.earliest[slot].min(when);
        if next != NONE {
            self.alarms[next as usize].previous = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Entry { previous, next, level, slot, .. } = self.alarms[index as usize];
        let (level, slot) = (usize::from(level), usize::from(slot));
        if next != NONE {
            self.alarms[next as usize].previous = previous;
        }
        if previous != NONE {
            self.alarms[previous as usize].next = next;
        } else if next != NONE {
            self.levels[level].first[slot] = next;
        } else {
            self.levels[level].clear(slot);
        }
    }

    fn allocate(&mut self) -> u32 {
        if self.free == NONE {
            let index = u32::try_from(self.alarms.len()).expect("alarms are bounded by tasks, far below 2³²");
            let (previous, next) = (NONE, NONE);
            self.alarms.push(Entry { generation: 0, previous, next, level: 0, slot: 0, when: 0, item: None });
            return index;
        }
        let index = self.free;
        self.free = self.alarms[index as usize].next;
        index
    }

    fn release(&mut self, index: u32) -> T {
        let alarm = &mut self.alarms[index as usize];
        alarm.generation = alarm.generation.wrapping_add(1);
        alarm.next = self.free;
        self.free = index;
        self.set -= 1;
        alarm.item.take().expect("only a set alarm is released")
    }
}

impl Level {
    fn clear(&mut self, slot: usize) {
        self.occupied &= !(1 << slot);
        self.first[slot] = NONE;
        self.earliest[slot] = u64::MAX;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_alarm_in_the_past_goes_off_at_once() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        wheel.advance(1_000, &mut due);
        wheel.insert(3, "late");
        assert_eq!(wheel.next(), Some(1_000));
        wheel.advance(1_000, &mut due);
        assert_eq!(due, ["late"]);
    }

    #[test]
    fn a_distant_alarm_needs_one_waking() {
        let mut wheel = Wheel::new();
        wheel.insert(60_000, ());
        assert_eq!(wheel.next(), Some(60_000));
        let mut due = Vec::new();
        wheel.advance(59_999, &mut due);
        assert!(due.is_empty());
        assert_eq!(wheel.next(), Some(60_000));
        wheel.advance(60_000, &mut due);
        assert_eq!((due.len(), wheel.next()), (1, None));
    }

    #[test]
    fn a_key_never_reaches_a_later_alarm() {
        let mut wheel = Wheel::new();
        let old = wheel.insert(5, "old");
        assert_eq!(wheel.remove(old), Some("old"));
        let new = wheel.insert(5, "new");
        assert_eq!((wheel.remove(old), wheel.item_mut(old).is_some()), (None, false));
        assert_eq!(wheel.remove(new), Some("new"));
        assert_eq!((wheel.len(), wheel.next(), wheel.alarms.len()), (0, None, 1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let distance =
            prop_oneof![0..70u64, 0..5_000u64, 0..400_000u64, Just(u64::MAX / 2), (0..46u32).prop_map(|b| 1 << b)];
        let step = prop_oneof![
            4 => distance.clone().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Remove),
            3 => prop_oneof![0..70u64, 0..5_000u64, 0..400_000u64].prop_map(Step::Advance),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// Against a sorted map: the same alarms go off at the same time, none earlier than `next` says.
        #[test]
        fn behaves_as_a_sorted_map(steps in steps()) {
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<(u64, usize), AlarmKey> = BTreeMap::new();
            let mut now = 0;
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(after) => {
                        let when = now + after;
                        model.insert((when.min(LAST), id), wheel.insert(when, id));
                    }
                    Step::Remove(which) if !model.is_empty() => {
                        let at = *model.keys().nth(which % model.len()).unwrap();
                        let key = model.remove(&at).unwrap();
                        prop_assert_eq!(wheel.remove(key), Some(at.1));
                    }
                    Step::Remove(_) => {}
                    Step::Advance(by) => {
                        now += by;
                        let promised = wheel.next();
                        let later = model.split_off(&(now + 1, 0));
                        let expected = std::mem::replace(&mut model, later);
                        let mut due = Vec::new();
                        wheel.advance(now, &mut due);
                        if let Some(((first, _), _)) = expected.first_key_value() {
                            prop_assert!(promised.is_some_and(|next| next <= (*first).max(now - by)));
                        }
                        due.sort_unstable();
                        let mut expected: Vec<usize> = expected.into_keys().map(|(_, id)| id).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(due, expected);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                prop_assert_eq!(wheel.next().is_some(), !model.is_empty());
            }
        }
    }
}
