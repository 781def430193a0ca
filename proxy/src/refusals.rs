//! Refusals reach the ledger without making anybody wait, and without letting the refused fill it.
//!
//! They are counted per (principal, code) in a bounded table, and once per interval each row becomes one
//! `request.refused` event. What does not fit the table is still counted, in one row without a
//! principal under the code `unlisted`. A row that could not be enrolled is kept and merged with the
//! next ones, so that a full disk costs detail, never the count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chancery_format::entry::request_refused;
use chancery_format::{EventDraft, PrincipalName, Timestamp};
use chancery_ledger::RollError;

use crate::chancery::Chancery;
use crate::problem::Code;

/// Code of the row that counts what did not fit.
pub const UNLISTED: &str = "unlisted";

/// Rows enrolled in one call: far below what one group commit may hold.
const ROWS_PER_CALL_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Row {
    const fn once(now: Timestamp) -> Self {
        Self { count: 1, first: now, last: now }
    }

    fn merge(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

type Key = (Code, Option<PrincipalName>);

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<Key, Row>,
    unlisted: Option<Row>,
}

impl Table {
    fn add(&mut self, key: Key, row: Row, rows_max: usize) {
        if let Some(known) = self.rows.get_mut(&key) {
            known.merge(row);
        } else if self.rows.len() < rows_max {
            self.rows.insert(key, row);
        } else {
            self.add_unlisted(row);
        }
    }

    fn add_unlisted(&mut self, row: Row) {
        match &mut self.unlisted {
            Some(known) => known.merge(row),
            None => self.unlisted = Some(row),
        }
    }
}

/// The refusals not yet on the ledger.
#[derive(Debug)]
pub struct Refusals {
    table: Mutex<Table>,
    rows_max: usize,
    noted: tokio::sync::Notify,
}

/// Rows taken out for enrolment. Put back with [`Refusals::restore`] if that fails.
#[derive(Debug)]
pub struct TakenRefusals(Table);

impl Refusals {
    /// An empty table of at most `rows_max` rows.
    pub fn new(rows_max: usize) -> Self {
        Self { table: Mutex::default(), rows_max, noted: tokio::sync::Notify::new() }
    }

    /// Counts a refusal. `principal` is `None` before authentication.
    pub fn note(&self, code: Code, principal: Option<&PrincipalName>, now: Timestamp) {
        self.lock().add((code, principal.cloned()), Row::once(now), self.rows_max);
        self.noted.notify_one();
    }

    /// Waits until there is something to enrol since the last wait.
    pub async fn noted(&self) {
        self.noted.notified().await;
    }

    /// Takes out as many rows as one call to the ledger may hold; `None` if there is nothing.
    pub fn take(&self) -> Option<TakenRefusals> {
        let mut table = self.lock();
        let mut taken = Table { rows: BTreeMap::new(), unlisted: table.unlisted.take() };
        while taken.rows.len() < ROWS_PER_CALL_MAX
            && let Some((key, row)) = table.rows.pop_first()
        {
            taken.rows.insert(key, row);
        }
        (!taken.rows.is_empty() || taken.unlisted.is_some()).then_some(TakenRefusals(taken))
    }

    /// Puts back what could not be enrolled.
    pub fn restore(&self, taken: TakenRefusals) {
        let mut table = self.lock();
        for (key, row) in taken.0.rows {
            table.add(key, row, self.rows_max);
        }
        if let Some(row) = taken.0.unlisted {
            table.add_unlisted(row);
        }
        drop(table);
        self.noted.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        // Nothing panics while the lock is held; a poisoned table would still be a table.
        self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl TakenRefusals {
    /// One event for each row.
    pub fn drafts(&self) -> Vec<EventDraft> {
        let rows = self.0.rows.iter();
        let listed = rows.map(|((code, principal), row)| draft(code.as_str(), principal.as_ref(), row));
        let unlisted = self.0.unlisted.iter().map(|row| draft(UNLISTED, None, row));
        listed.chain(unlisted).collect()
    }
}

fn draft(code: &str, principal: Option<&PrincipalName>, row: &Row) -> EventDraft {
    request_refused(code, principal, row.count, row.first, row.last)
}

/// Enrols what was refused, once per interval, for as long as it is polled.
pub async fn run(chancery: Arc<Chancery>) {
    loop {
        chancery.refusals.noted().await;
        tokio::time::sleep(chancery.limits.refusals_flush).await;
        if let Err(error) = flush(&chancery).await {
            tracing::warn!(target: "chancery::refusals", %error, "refusals wait for the ledger");
        }
    }
}

/// Enrols everything refused so far; the daemon's drain calls it last. The rows of one call are one group
/// commit: after an error they wait for the next time.
pub async fn flush(chancery: &Chancery) -> Result<(), RollError> {
    while let Some(taken) = chancery.refusals.take() {
        let drafts = taken.drafts().into_iter().map(|draft| (draft, None)).collect();
        let enrolled = chancery.roll.enrol_events(drafts).await;
        if let Some(error) = enrolled.into_iter().find_map(Result::err) {
            chancery.refusals.restore(taken);
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms).unwrap()
    }

    fn payloads(taken: &TakenRefusals) -> Vec<serde_json::Value> {
        let parse = |draft: &EventDraft| serde_json::from_str(draft.payload.as_str()).unwrap();
        taken.drafts().iter().map(parse).collect()
    }

    #[test]
    fn refusals_are_counted_per_principal_and_code() {
        let refusals = Refusals::new(10);
        assert!(refusals.take().is_none());
        let svc: PrincipalName = "svc".parse().unwrap();
        for ms in [3, 1, 2] {
            refusals.note(Code::KidNotGranted, Some(&svc), at(ms));
        }
        refusals.note(Code::ClientCertificateRequired, None, at(9));
        let rows = payloads(&refusals.take().unwrap());
        assert_eq!(rows.len(), 2);
        let svc_row = rows.iter().find(|row| row.get("principal").is_some()).unwrap();
        let expected = serde_json::json!({
            "code": "kid-not-granted", "principal": "svc", "count": 3,
            "firstTs": "1970-01-01T00:00:00.001Z", "lastTs": "1970-01-01T00:00:00.003Z",
        });
        assert_eq!(*svc_row, expected);
        assert!(refusals.take().is_none());
    }

    #[test]
    fn what_does_not_fit_is_still_counted() {
        let refusals = Refusals::new(2);
        for name in ["a", "b", "c", "d", "a"] {
            refusals.note(Code::RateLimited, Some(&name.parse().unwrap()), at(1));
        }
        let rows = payloads(&refusals.take().unwrap());
        let counts: Vec<_> = rows
            .iter()
            .map(|row| {
                (row.get("code").unwrap().as_str().unwrap(), row.get("count").unwrap().as_u64().unwrap())
            })
            .collect();
        assert_eq!(counts, [("rate-limited", 2), ("rate-limited", 1), ("unlisted", 2)]);
    }

    #[test]
    fn what_could_not_be_enrolled_is_merged_with_what_came_since() {
        let refusals = Refusals::new(2);
        refusals.note(Code::Halted, None, at(1));
        let taken = refusals.take().unwrap();
        refusals.note(Code::Halted, None, at(5));
        refusals.restore(taken);
        let rows = payloads(&refusals.take().unwrap());
        assert_eq!(rows.len(), 1);
        assert_eq!(rows.first().unwrap().get("count").unwrap(), 2);
    }

    #[tokio::test]
    async fn a_note_wakes_the_one_who_waits() {
        let refusals = Refusals::new(2);
        refusals.note(Code::Halted, None, at(1));
        tokio::time::timeout(std::time::Duration::from_secs(5), refusals.noted()).await.unwrap();
    }
}
