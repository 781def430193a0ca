//! What stands beside the tree: stream heads, open intents, high-water marks, registry versions.

use std::io;

use chancery_format::archive::{registry_name, registry_note_text, registry_signature_name};
use chancery_format::entry::event_type;
use chancery_format::note::Note;
use chancery_format::{AuditEvent, Hash, Intent, TreeHead};

use super::findings::{Finding, Kind, Side};
use super::objects::Held;
use super::{Check, CheckError};
use crate::epochs::Published;
use crate::layout::{ChainHead, StreamHead};
use crate::replay::{Answer, Replay};
use crate::second_opinion::sha256;

/// Rows read at a time.
const PAGE: usize = 1000;

/// A registry version that a leaf published.
#[derive(Debug)]
pub(super) struct Publication {
    index: u64,
    version: u64,
    sha256: String,
}

impl Publication {
    pub(super) fn of(index: u64, event: &AuditEvent<'_>) -> Option<Self> {
        let ours = event.event_type == event_type::REGISTRY && event.stream == "chancery";
        let Published { sha256, version } = ours.then(|| Published::of_payload(event.payload)).flatten()?;
        Some(Self { index, version, sha256 })
    }
}

impl Check<'_> {
    /// Both slots of the file; the mark must not be beyond the head.
    pub(super) fn take_marks(&mut self, marks: io::Result<[Option<TreeHead>; 2]>) {
        let wrong = |message: String| Finding::new(Kind::HighWater, Side::Store, message);
        match marks {
            Err(error) => self.found(wrong(format!("the high-water mark cannot be read: {error}"))),
            Ok([None, None]) => self.found(wrong("both high-water marks are damaged".to_owned())),
            Ok(slots) => self.marks = slots.into_iter().flatten().collect(),
        }
        let highest = self.marks.iter().map(|mark| mark.size).max();
        if let Some(lost) = highest.filter(|size| *size > self.head.size) {
            let message = format!("{lost} entries were acknowledged, the ledger ends at {}", self.head.size);
            self.found(wrong(message));
        }
    }

    /// Each stream's head is its last leaf.
    pub(super) fn check_stream_heads(&mut self) -> Result<(), CheckError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            self.go_on()?;
            let page = self.store.stream_rows(after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.to_vec());
            for (name, row) in &page {
                self.report.counts.streams += 1;
                let name = String::from_utf8_lossy(name);
                if let Err(why) = self.check_stream_head(&name, row) {
                    self.found(Finding::new(Kind::StreamHead, Side::Store, format!("stream {name}: {why}")));
                }
            }
        }
        if self.report.counts.streams < self.streams {
            let message =
                format!("{} streams have heads, {} were begun", self.report.counts.streams, self.streams);
            self.found(Finding::new(Kind::StreamHead, Side::Store, message));
        }
        Ok(())
    }

    fn check_stream_head(&self, name: &str, row: &[u8]) -> Result<(), String> {
        let head = StreamHead::decode(row).map_err(|_| "its head has not the shape of one".to_owned())?;
        let leaf = self.store.leaf(head.last_index).map_err(|error| error.to_string())?;
        let leaf = leaf.ok_or("its head names an entry that is not there")?;
        // An entry that is none has a finding of its own.
        let Ok(event) = AuditEvent::parse(&leaf) else { return Ok(()) };
        let row = event.chain.map(|link| ChainHead::of(&link, event.ts));
        let same = event.stream == name
            && event.seq.checked_add(1) == Some(head.next_seq)
            && event.hash == head.hash
            && row == head.chain;
        if same { Ok(()) } else { Err("its head is not its last entry".to_owned()) }
    }

    /// Each open intent can be read and has no outcome.
    pub(super) fn check_intents(&mut self) -> Result<(), CheckError> {
        let mut from = 0;
        loop {
            self.go_on()?;
            let page = self.store.intents(from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            let next = last.saturating_add(1);
            for (number, record) in page {
                let wrong = match Intent::decode(&record) {
                    None => Some("cannot be read".to_owned()),
                    Some(intent) => self.outcome_of(number, &record, &intent)?,
                };
                if let Some(why) = wrong {
                    let message = format!("open intent {number} {why}");
                    self.found(Finding::new(Kind::Intent, Side::Store, message));
                }
            }
            from = next;
        }
    }

    /// An intent leaves in the batch of its outcome: what is answered cannot be open.
    fn outcome_of(&self, number: u64, record: &[u8], intent: &Intent) -> Result<Option<String>, CheckError> {
        let parts = intent.parts();
        let Some(key) = parts.replay.as_ref() else { return Ok(None) };
        let answered = self.store.replay(Replay::new(&parts.principal, key).id)?;
        let Some(answered) = answered.filter(|it| it.answer == Answer::Signature) else { return Ok(None) };
        // It may have been closed since it was read.
        let still = self.store.intents(number, 1)?;
        let open = still.first().is_some_and(|(at, there)| *at == number && **there == *record);
        Ok(open.then(|| format!("has its signature already, at {}", answered.index)))
    }

    /// Registry versions published below a proven size: as recorded, signed, and in the archive.
    pub(super) fn check_published(&mut self, size: u64) -> Result<(), CheckError> {
        let all = std::mem::take(&mut self.published);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.index < size);
        self.published = later;
        for publication in due {
            self.check_publication(&publication)?;
        }
        Ok(())
    }

    fn check_publication(&mut self, it: &Publication) -> Result<(), CheckError> {
        let version = it.version;
        let recorded = self.store.registry(version);
        let Ok(Some((json, note))) = recorded else {
            let message = format!("registry version {version} was published and is not recorded");
            self.found(Finding::new(Kind::RegistryInvalid, Side::Store, message).at(it.index).proven(true));
            return Ok(());
        };
        let hash = sha256(&[&json]);
        let is_file = hash.to_hex() == it.sha256;
        let is_note = self.is_signed_registry(&note, version, &hash);
        if !is_file || !is_note {
            let what =
                if is_file { "its note is not signed, or not over it" } else { "is not the file published" };
            let message = format!("recorded registry version {version}: {what}");
            self.found(Finding::new(Kind::RegistryInvalid, Side::Store, message).at(it.index).proven(true));
        }
        if it.index >= self.archived {
            return Ok(());
        }
        self.archived_registry(&registry_name(version), is_file.then_some(&*json), it, |held| {
            sha256(&[held]).to_hex() == it.sha256
        })?;
        let signed = is_file && is_note;
        let published = Hash::from_hex(&it.sha256).unwrap_or(hash);
        let (keys, text) = (self.options.keys, registry_note_text(self.origin, version, &published));
        self.archived_registry(
            &registry_signature_name(version),
            signed.then_some(note.as_bytes()),
            it,
            |held| is_signed(held, &text, keys.ed25519()),
        )
    }

    fn archived_registry(
        &mut self,
        name: &str,
        expected: Option<&[u8]>,
        it: &Publication,
        is_right: impl Fn(&[u8]) -> bool,
    ) -> Result<(), CheckError> {
        match self.held(name, expected)? {
            Held::Same | Held::Unknown => {}
            Held::Missing => self.missing(name, expected, expected.is_some())?,
            // The store's own copy is wrong, and has its finding.
            Held::Other(bytes) if is_right(&bytes) && expected.is_none() => {}
            Held::Other(_) => {
                let message = format!("it is not what entry {} published", it.index);
                let finding = Finding::new(Kind::ObjectAltered, Side::Archive, message);
                self.found(finding.at(it.index).of(name).proven(true));
            }
        }
        Ok(())
    }

    fn is_signed_registry(&self, note: &str, version: u64, hash: &Hash) -> bool {
        let text = registry_note_text(self.origin, version, hash);
        is_signed(note.as_bytes(), &text, self.options.keys.ed25519())
    }
}

fn is_signed(note: &[u8], text: &str, keys: &[chancery_format::note::NoteVerifier]) -> bool {
    let note = std::str::from_utf8(note).ok().and_then(|note| Note::parse(note).ok());
    note.is_some_and(|note| note.text == text && note.verify(keys).is_ok())
}
