//! Finds out from the first rows which writer made them, and in which form.

use super::rows::Batch;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::dialect::{self, Dialect};
use chancery_format::chain::json::Value;

/// Rows from which the writer is found out.
const DETECTED_FROM: usize = 64;
/// Unbound columns that are named.
const COLUMNS_MAX: usize = 64;

/// A writer, and how sure that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detected {
    pub(super) writer: (Dialect, Mode),
    /// Rows that agree with it.
    pub(super) agree: usize,
    /// Rows that were looked at.
    pub(super) of: usize,
    /// Columns that can be altered without its hash or signature telling.
    pub(super) unbound: Vec<String>,
}

/// The writer and form that most rows agree with, of those that are possible.
pub(super) fn detect(batch: &Batch, dialect: Option<Dialect>, mode: Option<Mode>) -> Detected {
    let first = batch.rows().take(DETECTED_FROM);
    let rows: Vec<Value<'_>> =
        first.filter_map(|row| Value::parse(std::str::from_utf8(row).ok()?.trim()).ok()).collect();
    let mut best: Option<((usize, usize), (Dialect, Mode))> = None;
    for candidate in Dialect::ALL.into_iter().filter(|it| dialect.is_none_or(|given| given == *it)) {
        let alike = rows.iter().filter(|row| candidate.looks_like(row)).count();
        for mode in mode.as_ref().map(std::slice::from_ref).unwrap_or(candidate.modes()) {
            let agree = rows.iter().filter(|row| agrees(candidate, *mode, row)).count();
            if best.is_none_or(|(found, _)| (agree, alike) > found) {
                best = Some(((agree, alike), (candidate, *mode)));
            }
        }
    }
    let ((agree, _), writer) = best.unwrap_or(((0, 0), (Dialect::Kernel, Mode::JsRebuild)));
    let unbound = unbound(writer.0, &rows);
    Detected { writer, agree, of: batch.len().min(DETECTED_FROM), unbound }
}

fn unbound(dialect: Dialect, rows: &[Value<'_>]) -> Vec<String> {
    if dialect == Dialect::SafeAi {
        let is_first = |row: &Value<'_>| row.get("event").and_then(Value::as_str) == Some("genesis");
        return if rows.iter().any(is_first) { vec!["its first record".to_owned()] } else { Vec::new() };
    }
    let mut unbound = Vec::new();
    for row in rows {
        let Value::Object(members) = row else { continue };
        let names = members.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok());
        for name in names.filter(|name| dialect.is_unbound(name)) {
            if unbound.len() < COLUMNS_MAX && !unbound.iter().any(|known| known == name) {
                unbound.push(name.to_owned());
            }
        }
    }
    unbound
}

/// Whether a row has the hash it says. Without one, its columns are all there is.
fn agrees(dialect: Dialect, mode: Mode, row: &Value<'_>) -> bool {
    match dialect::stored(row) {
        Ok(Some(stored)) => dialect.hash(row, mode).is_ok_and(|hash| hash == stored),
        _ => !dialect.stores_hash() && dialect.looks_like(row),
    }
}
