//! Intents that are on disk and have no outcome yet.
//!
//! An outcome names its intent by content: two intents equal in every byte are interchangeable, so
//! closing either one is right. What is still here when the process dies becomes an abandoned leaf at the
//! next start.

use std::collections::HashMap;

use chancery_format::Hash;

/// Open intents by the hash of their durable record.
#[derive(Default)]
pub(crate) struct OpenIntents {
    numbers: HashMap<Hash, Vec<u64>>,
    open: usize,
    next: u64,
}

impl OpenIntents {
    /// How many are open.
    pub(crate) const fn len(&self) -> usize {
        self.open
    }

    /// A new intent is about to be written; gives its number on disk.
    pub(crate) fn open(&mut self, tag: Hash) -> u64 {
        let number = self.next;
        self.reopen(number, tag);
        number
    }

    /// An intent was found on disk.
    pub(crate) fn reopen(&mut self, number: u64, tag: Hash) {
        self.numbers.entry(tag).or_default().push(number);
        self.open += 1;
        self.next = self.next.max(number + 1);
    }

    /// An outcome ends one of the intents with this content; `None` if there is none.
    pub(crate) fn close(&mut self, tag: Hash) -> Option<u64> {
        let numbers = self.numbers.get_mut(&tag)?;
        let number = numbers.pop()?;
        if numbers.is_empty() {
            self.numbers.remove(&tag);
        }
        self.open -= 1;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_intents_are_closed_one_by_one() {
        let mut intents = OpenIntents::default();
        let (a, b) = (Hash([1; 32]), Hash([2; 32]));
        intents.reopen(7, a);
        assert_eq!((intents.open(a), intents.open(b), intents.len()), (8, 9, 3));
        assert_eq!([intents.close(a), intents.close(a), intents.close(a)], [Some(8), Some(7), None]);
        assert_eq!((intents.close(b), intents.len()), (Some(9), 0));
    }
}
