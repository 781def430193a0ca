//! Traces of tampering that do not stop the archive: counted, logged, and kept for whoever asks.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::limits::ALARMS_KEPT;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlarmKind {
    /// Someone deleted the name: a marker hides it from plain readers. The versions below are untouched.
    DeleteMarker,
    /// More than one version of a name: someone overwrote it, or a put was repeated by a store that does not
    /// honour create-only.
    ExtraVersions,
    /// A version made by a multipart upload, which this archive never uses. Stores date such a version by
    /// when the upload began, so it can stand before the original; it is never taken for it.
    MultipartVersion,
}

impl AlarmKind {
    /// All kinds, for metrics that want each label from the start.
    pub const ALL: [Self; 3] = [Self::DeleteMarker, Self::ExtraVersions, Self::MultipartVersion];

    /// Stable label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::DeleteMarker => "delete-marker",
            Self::ExtraVersions => "extra-versions",
            Self::MultipartVersion => "multipart-version",
        }
    }
}

/// One sighting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub kind: AlarmKind,
    /// Object name, without the archive's prefix.
    pub name: String,
}

/// Counts and the last few sightings.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counts: [u64; AlarmKind::ALL.len()],
    recent: VecDeque<Alarm>,
}

impl Alarms {
    pub(crate) fn raise(&self, kind: AlarmKind, name: &str) {
        tracing::error!(alarm = kind.label(), object = name, "the archive was tampered with");
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = state.counts.get_mut(kind as usize) {
            *count = count.saturating_add(1);
        }
        let alarm = Alarm { kind, name: name.to_owned() };
        // A name that is read again and again is one sighting, not many.
        if !state.recent.contains(&alarm) {
            if state.recent.len() == ALARMS_KEPT {
                state.recent.pop_front();
            }
            state.recent.push_back(alarm);
        }
    }

    pub(crate) fn count(&self, kind: AlarmKind) -> u64 {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.get(kind as usize).copied().unwrap_or(0)
    }

    pub(crate) fn recent(&self) -> Vec<Alarm> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.recent.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_sighting_is_counted_but_kept_once_and_the_store_is_bounded() {
        let alarms = Alarms::default();
        for _ in 0..3 {
            alarms.raise(AlarmKind::ExtraVersions, "a");
        }
        assert_eq!(alarms.count(AlarmKind::ExtraVersions), 3);
        assert_eq!(alarms.recent(), [Alarm { kind: AlarmKind::ExtraVersions, name: "a".into() }]);
        for n in 0..ALARMS_KEPT {
            alarms.raise(AlarmKind::DeleteMarker, &n.to_string());
        }
        assert_eq!(alarms.recent().len(), ALARMS_KEPT);
        assert!(alarms.recent().iter().all(|alarm| alarm.kind == AlarmKind::DeleteMarker));
    }
}
