//! The queue in front of a device: bounded, one lane per flow, lanes served in turn.
//!
//! A [`Flow`] is whoever asks: a service, the ledger, a probe. Within a lane, first come is first served;
//! between lanes each gets one turn per round, so a flow waits for as many others as there are, however
//! much each of them asks. The ledger's lane goes before all.
//!
//! | who comes | while | gets |
//! |---|---|---|
//! | anyone | no other flow waits | every free place |
//! | a flow with half of all places | another waits | [`Full`] |
//! | anyone | a place is free | it |
//! | a flow at least two behind the longest lane, or the ledger | no place is free | the place of that lane's newest, which is handed back |
//! | anyone else | no place is free | [`Full`] |
//!
//! What its caller gave up costs no turn, and no place once room is needed and it has come to the front.
//! Nothing here uses a key or looks at a clock.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use chancery_format::PrincipalName;

/// Whose work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The ledger's own: checkpoints. Served first, and goes on while signing is halted.
    Ledger,
    /// A service's, by hash of its name. Two names of one hash share a lane and nothing else.
    Principal(u64),
    /// Checks of MACs that no principal is named for.
    Unnamed,
    /// The trial of a key pair that callers cannot ask for yet.
    Trial,
    /// A sign of life.
    Probe,
}

impl Flow {
    /// The flow of one principal.
    pub(crate) fn of(principal: &PrincipalName) -> Self {
        let mut hasher = DefaultHasher::new();
        principal.as_str().hash(&mut hasher);
        Self::Principal(hasher.finish())
    }
}

/// Something that waits, and whose caller may go away meanwhile.
pub(crate) trait Waiter {
    /// Whether the caller went away. Stays so.
    fn is_given_up(&self) -> bool;

    /// Takes it out of its caller's hands; `false` if the caller went away before.
    fn take(&self) -> bool;
}

/// There is no place for this flow. The load is at fault; passes by itself. Nothing was queued.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Why nothing was queued.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// See [`Full`].
    Full,
    /// Nobody takes anything out any more.
    NoReceiver,
}

/// A queue of `max` places, at least one.
pub(crate) fn bounded<T: Waiter>(max: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { lanes: Lanes::new(max), closed: false, receivers: 1 };
    let shared = Arc::new(Shared { state: Mutex::new(state), filled: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Where work goes in. There is one; dropping it ends the receivers once they have taken what waits.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Where threads take work out. When the last is dropped, what waits is dropped too.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    lanes: Lanes<T>,
    closed: bool,
    receivers: usize,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Waiter> Sender<T> {
    /// Queues at once or not at all. `Ok` may hand back what had to make room: it was not taken, and
    /// whoever waits for it must be told.
    pub(crate) fn try_send(&self, flow: Flow, item: T) -> Result<Option<T>, SendError> {
        let mut gone = Vec::new(); // before the lock, so that it is dropped after it
        let mut state = self.0.lock();
        if state.receivers == 0 {
            return Err(SendError::NoReceiver);
        }
        let made_room = state.lanes.push(flow, item, &mut gone).map_err(|Full| SendError::Full)?;
        drop(state);
        self.0.filled.notify_one();
        Ok(made_room)
    }

    /// Whether [`Sender::try_send`] would queue for this flow now.
    pub(crate) fn has_room(&self, flow: Flow) -> bool {
        let mut gone = Vec::new();
        self.0.lock().lanes.room(flow, &mut gone) != Room::None
    }

    /// Whether every place is taken. Some flows may get in all the same.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.0.lock();
        state.lanes.len >= state.lanes.max
    }

    /// How much waits, with what was given up and not come to the front.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().lanes.len
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_all();
    }
}

impl<T: Waiter> Receiver<T> {
    /// The next in turn, taken; sleeps while there is none. `None` once the sender is gone and nothing waits.
    pub(crate) fn recv(&self) -> Option<T> {
        loop {
            let mut gone = Vec::new(); // before the lock, so that it is dropped after it
            let mut state = self.0.lock();
            if let Some(item) = state.lanes.pop(&mut gone) {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            if gone.is_empty() {
                drop(self.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.lock().receivers += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receivers = state.receivers.saturating_sub(1);
        let left = if state.receivers == 0 { state.lanes.clear() } else { VecDeque::new() };
        drop(state);
        drop(left);
    }
}

/// Who waits and whose turn it is: all of the fairness, without threads.
struct Lanes<T> {
    max: usize,
    len: usize,
    /// One per flow that waits, none empty; whose turn it is stands in front.
    ring: VecDeque<Lane<T>>,
}

struct Lane<T> {
    flow: Flow,
    waiting: VecDeque<T>,
}

/// Where one more of a flow could go.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// In place of the newest of this lane of the ring.
    InsteadOf(usize),
    None,
}

impl<T> Lanes<T> {
    fn new(max: usize) -> Self {
        Self { max: max.max(1), len: 0, ring: VecDeque::new() }
    }

    /// Most one flow may have while another waits.
    fn share(&self) -> usize {
        (self.max / 2).max(1)
    }

    fn clear(&mut self) -> VecDeque<Lane<T>> {
        self.len = 0;
        std::mem::take(&mut self.ring)
    }
}

impl<T: Waiter> Lanes<T> {
    /// Queues for a flow. `Ok` may hand back what made room for it.
    fn push(&mut self, flow: Flow, item: T, gone: &mut Vec<T>) -> Result<Option<T>, Full> {
        let made_room = match self.room(flow, gone) {
            Room::Free => None,
            Room::InsteadOf(lane) => self.push_out_newest(lane),
            Room::None => return Err(Full),
        };
        self.len += 1;
        match self.ring.iter_mut().find(|lane| lane.flow == flow) {
            Some(lane) => lane.waiting.push_back(item),
            None => self.stand_in_line(Lane { flow, waiting: VecDeque::from([item]) }),
        }
        Ok(made_room)
    }

    /// The next in turn, taken.
    fn pop(&mut self, gone: &mut Vec<T>) -> Option<T> {
        while let Some(mut lane) = self.ring.pop_front() {
            let before = lane.waiting.len();
            let taken = lane.take_first(gone);
            self.len -= before - lane.waiting.len();
            if !lane.waiting.is_empty() {
                self.stand_in_line(lane);
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    fn push_out_newest(&mut self, lane: usize) -> Option<T> {
        let newest = self.ring.get_mut(lane)?.waiting.pop_back()?;
        self.len -= 1;
        self.ring.retain(|lane| !lane.waiting.is_empty());
        Some(newest)
    }

    fn stand_in_line(&mut self, lane: Lane<T>) {
        match lane.flow {
            Flow::Ledger => self.ring.push_front(lane),
            _ => self.ring.push_back(lane),
        }
    }

    fn room(&mut self, flow: Flow, gone: &mut Vec<T>) -> Room {
        match self.room_as_it_is(flow) {
            Room::Free => Room::Free,
            _ => {
                self.drop_given_up(gone);
                self.room_as_it_is(flow)
            }
        }
    }

    fn room_as_it_is(&self, flow: Flow) -> Room {
        let mine = self.ring.iter().find(|lane| lane.flow == flow).map_or(0, |lane| lane.waiting.len());
        if mine < self.len && mine >= self.share() {
            return Room::None;
        }
        if self.len < self.max {
            return Room::Free;
        }
        let lengths = self.ring.iter().map(|lane| (lane.flow, lane.waiting.len())).enumerate();
        let longest = lengths.filter(|(_, (flow, _))| *flow != Flow::Ledger).max_by_key(|(_, (_, len))| *len);
        match longest {
            // Two behind, so that the one pushed out is not at once entitled to do the same.
            Some((lane, (_, len))) if flow == Flow::Ledger || len >= mine + 2 => Room::InsteadOf(lane),
            _ => Room::None,
        }
    }

    /// Clears the front of each lane of what was given up. Deadlines pass from the front, so this finds
    /// nearly all of it and never walks a whole lane of those who still wait.
    fn drop_given_up(&mut self, gone: &mut Vec<T>) {
        let before = gone.len();
        for lane in &mut self.ring {
            while let Some(item) = lane.waiting.pop_front_if(|item| item.is_given_up()) {
                gone.push(item);
            }
        }
        self.ring.retain(|lane| !lane.waiting.is_empty());
        self.len -= gone.len() - before;
    }
}

impl<T: Waiter> Lane<T> {
    fn take_first(&mut self, gone: &mut Vec<T>) -> Option<T> {
        while let Some(item) = self.waiting.pop_front() {
            if item.take() {
                return Some(item);
            }
            gone.push(item);
        }
        None
    }
}

#[cfg(test)]
mod tests;
