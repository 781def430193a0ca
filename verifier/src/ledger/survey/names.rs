//! Names met on a ledger, each once, up to a limit: what comes after is counted together.

use std::collections::HashMap;

/// Stands for every name beyond the limit.
const OTHERS: NameId = NameId(u32::MAX);

/// Position of a name in its [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameId(u32);

impl NameId {
    /// Whether it is no single name.
    pub(crate) fn is_others(self) -> bool {
        self == OTHERS
    }
}

/// Names of one kind.
#[derive(Debug)]
pub(crate) struct Names {
    ids: HashMap<Box<str>, NameId>,
    list: Vec<Box<str>>,
    limit: usize,
}

impl Names {
    pub(crate) fn up_to(limit: usize) -> Self {
        Self { ids: HashMap::new(), list: Vec::new(), limit }
    }

    /// The id of a name; the one of all others once the limit is reached.
    pub(crate) fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let Some(id) = u32::try_from(self.list.len()).ok().filter(|_| self.list.len() < self.limit) else {
            return OTHERS;
        };
        self.ids.insert(name.into(), NameId(id));
        self.list.push(name.into());
        NameId(id)
    }

    /// The text; `None` for all others.
    pub(crate) fn text(&self, id: NameId) -> Option<&str> {
        self.list.get(usize::try_from(id.0).ok()?).map(AsRef::as_ref)
    }
}

/// The first and the last of many, half of a limit each; those between are only counted.
#[derive(Debug)]
pub(crate) struct Ends<T> {
    first: Vec<T>,
    last: std::collections::VecDeque<T>,
    half: usize,
    dropped: u64,
}

impl<T> Ends<T> {
    pub(crate) const fn up_to(limit: usize) -> Self {
        Self {
            first: Vec::new(),
            last: std::collections::VecDeque::new(),
            half: limit.div_ceil(2),
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, one: T) {
        if self.first.len() < self.half {
            self.first.push(one);
            return;
        }
        if self.last.len() == self.half {
            self.last.pop_front();
            self.dropped += 1;
        }
        self.last.push_back(one);
    }

    /// How many were dropped between the first and the last.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn all(self) -> impl Iterator<Item = T> {
        self.first.into_iter().chain(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_names_are_others() {
        let mut names = Names::up_to(2);
        let (a, b, c) = (names.id("a"), names.id("b"), names.id("c"));
        assert_eq!((names.text(a), names.text(b), names.text(c)), (Some("a"), Some("b"), None));
        assert!(c.is_others() && names.id("d") == c && names.id("a") == a);
    }

    #[test]
    fn both_ends_are_kept_in_order() {
        let mut ends = Ends::up_to(4);
        (0..9).for_each(|number| ends.push(number));
        assert_eq!(ends.dropped(), 5);
        assert_eq!(ends.all().collect::<Vec<_>>(), [0, 1, 7, 8]);
    }
}
