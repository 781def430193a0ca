//! Who did what when, counted in the one pass for the auditor's report.
//!
//! It promises that nothing is counted before a signed root covers it: entries wait in a tally of their own until the
//! next checkpoint to which they lead. It stops for good at the first entry that cannot be read and at the first root
//! to which the entries do not lead: what follows may have another meaning than it seems to have. An entry with a
//! finding of its own is not counted, and a signature that does not verify is taken back. Memory does not grow with
//! the ledger: each kind of name, list and row has its limit below, and what is beyond it is summed.

mod names;
mod tally;
mod timeline;

use std::collections::{BTreeMap, HashSet};

use chancery_format::Timestamp;
use chancery_format::governance::{Event, HaltState};

use serde_json::{Value, json};

use self::names::{Ends, NameId, Names};
pub(crate) use self::tally::{ActorTally, Count, KeyTally, Moment, Pause};
use self::tally::{Counts, Tally, count, take_back};
pub(crate) use self::timeline::{Series, Timeline};
use super::event::Link;
use super::sight::{Class, Seen, What};
use crate::trust::{SignerId, Trust};

/// Actors and streams told apart: names have up to 256 bytes, so 10 MB for each.
const ACTORS_MAX: usize = 20_000;
const STREAMS_MAX: usize = 20_000;
/// Event types and purposes told apart: there are dozens, unless somebody makes them up.
const TYPES_MAX: usize = 2_000;
const PURPOSES_MAX: usize = 2_000;
/// Reasons of failures, refusals and verdicts, and ways of asking, told apart: words of programs.
const WORDS_MAX: usize = 500;
/// Key pairs with a row of their own over time: 2 KB each.
const ROWS_MAX: usize = 256;
/// Halts, rotations and compromises each that are drawn.
const MARKS_MAX: usize = 2_000;
/// Rows of a ranking.
const RANKED_MAX: usize = 40;

/// What is needed to take back one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    ts: Timestamp,
    actor: NameId,
    purpose: Option<NameId>,
    dialect: NameId,
}

/// An entry that has a section of its own.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    pub(crate) index: u64,
    pub(crate) ts: Timestamp,
    pub(crate) event_type: String,
    pub(crate) actor: String,
    /// Stream and position, where known.
    pub(crate) place: Option<(String, u64)>,
    /// The beginning of its payload.
    pub(crate) quote: Option<Box<str>>,
    pub(crate) class: Class,
    /// Whether a signed root covers it and nothing is wrong with it.
    pub(crate) verified: bool,
}

/// Signing was halted, or went on.
#[derive(Debug, Clone)]
pub(crate) struct HaltMark {
    pub(crate) at: Moment,
    pub(crate) scope: String,
    pub(crate) halted: bool,
    pub(crate) by: String,
    pub(crate) reason: Option<String>,
    pub(crate) approval: Option<String>,
}

/// A key pair followed another.
#[derive(Debug, Clone)]
pub(crate) struct RotationMark {
    pub(crate) at: Moment,
    pub(crate) kid: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) hand_over: Option<u64>,
}

/// A key pair was said to be in somebody else's hands.
#[derive(Debug, Clone)]
pub(crate) struct CompromiseMark {
    pub(crate) at: Moment,
    pub(crate) signer_kid: String,
    pub(crate) since: u64,
    pub(crate) suspect: u64,
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// Names of every kind.
#[derive(Debug)]
struct AllNames {
    actors: Names,
    streams: Names,
    types: Names,
    purposes: Names,
    words: Names,
}

/// Counts while the pass goes on.
#[derive(Debug)]
pub(crate) struct Collector {
    names: AllNames,
    settled: Tally,
    settled_until: u64,
    pending: Tally,
    /// Nothing from this index on is counted.
    stopped_at: Option<u64>,
    /// Entries not counted because something is wrong with them.
    flawed: u64,
    /// Signatures taken back.
    taken_back: u64,
    clock: Option<Moment>,
    /// Key pairs with a row over time.
    rows: HashSet<SignerId>,
    noted: BTreeMap<Class, Ends<Noted>>,
    halts: Ends<HaltMark>,
    rotations: Ends<RotationMark>,
    compromises: Ends<CompromiseMark>,
    retired: BTreeMap<SignerId, Moment>,
    epochs: u64,
    largest_epoch: Option<(u64, u64)>,
}

impl Collector {
    pub(crate) fn new() -> Self {
        let names = AllNames {
            actors: Names::up_to(ACTORS_MAX),
            streams: Names::up_to(STREAMS_MAX),
            types: Names::up_to(TYPES_MAX),
            purposes: Names::up_to(PURPOSES_MAX),
            words: Names::up_to(WORDS_MAX),
        };
        Self {
            names,
            settled: Tally::default(),
            settled_until: 0,
            pending: Tally::default(),
            stopped_at: None,
            flawed: 0,
            taken_back: 0,
            clock: None,
            rows: HashSet::new(),
            noted: Class::ALL.map(|class| (class, Ends::up_to(class.noted_max()))).into(),
            halts: Ends::up_to(MARKS_MAX),
            rotations: Ends::up_to(MARKS_MAX),
            compromises: Ends::up_to(MARKS_MAX),
            retired: BTreeMap::new(),
            epochs: 0,
            largest_epoch: None,
        }
    }

    /// Nothing from this index on is what it seems to be.
    pub(crate) fn stop(&mut self, index: u64) {
        self.stopped_at = Some(self.stopped_at.map_or(index, |known| known.min(index)));
    }

    /// The entries lead to the signed root of this size.
    pub(crate) fn covered(&mut self, size: u64) {
        let until = self.stopped_at.map_or(size, |stop| stop.min(size));
        if until <= self.settled_until {
            return;
        }
        self.settled.absorb(std::mem::take(&mut self.pending));
        let grown = until - self.settled_until;
        if self.largest_epoch.is_none_or(|(from, to)| to - from < grown) {
            self.largest_epoch = Some((self.settled_until, until));
        }
        self.settled_until = until;
        self.epochs += 1;
    }

    /// They do not, or it cannot be said: what waits is given up.
    pub(crate) fn not_covered(&mut self) {
        self.stop(self.settled_until);
        self.pending = Tally::default();
    }

    /// Takes up one entry; gives what is needed to take back each of its signatures, if they were counted.
    pub(crate) fn see(&mut self, index: u64, link: &Link, seen: Seen, flawed: bool) -> Option<Mark> {
        if self.stopped_at.is_some_and(|stop| index >= stop) && !flawed {
            return None;
        }
        self.note(index, link, &seen, flawed);
        if flawed {
            self.flawed += 1;
            return None;
        }
        self.count(index, link, seen)
    }

    /// A signature that was counted does not verify.
    pub(crate) fn take_back(&mut self, trust: &Trust, signer: SignerId, index: u64, mark: &Mark) {
        let actor = self.names.actors.text(mark.actor).unwrap_or("(others)").to_owned();
        self.keep(Noted {
            index,
            ts: mark.ts,
            event_type: format!("signature by {}", trust.signer(signer).name()),
            actor,
            place: None,
            quote: None,
            class: Class::Finding,
            verified: false,
        });
        if self.stopped_at.is_some_and(|stop| index >= stop) {
            return;
        }
        self.taken_back += 1;
        let series = self.series(signer);
        let tally = if index < self.settled_until { &mut self.settled } else { &mut self.pending };
        if let Some(key) = tally.keys.get_mut(&signer) {
            key.verified = key.verified.saturating_sub(1);
        }
        if let Some(actor) = tally.actors.get_mut(&mark.actor) {
            actor.verified = actor.verified.saturating_sub(1);
        }
        if let Some(pair) = tally.pairs.get_mut(&(mark.actor, signer)) {
            *pair = pair.saturating_sub(1);
        }
        if let Some(purpose) = mark.purpose {
            take_back(&mut tally.purposes, purpose);
        }
        take_back(&mut tally.dialects, mark.dialect);
        tally.timeline.take_back(series, mark.ts.unix_ms());
    }

    fn series(&mut self, signer: SignerId) -> Series {
        if self.rows.contains(&signer) || (self.rows.len() < ROWS_MAX && self.rows.insert(signer)) {
            Series::Key(signer)
        } else {
            Series::OtherKeys
        }
    }

    fn keep(&mut self, noted: Noted) {
        if let Some(ends) = self.noted.get_mut(&noted.class) {
            ends.push(noted);
        }
    }

    fn note(&mut self, index: u64, link: &Link, seen: &Seen, flawed: bool) {
        let class = match (&seen.quote, flawed) {
            (_, true) => Class::Finding,
            (Some((class, _)), false) => *class,
            (None, false) => return,
        };
        self.keep(Noted {
            index,
            ts: seen.ts,
            event_type: seen.event_type.as_ref().to_owned(),
            actor: seen.actor.as_ref().to_owned(),
            place: Some((link.stream.as_ref().to_owned(), link.seq)),
            quote: seen.quote.as_ref().map(|(_, text)| text.clone()),
            class,
            verified: !flawed,
        });
    }

    fn count(&mut self, index: u64, link: &Link, seen: Seen) -> Option<Mark> {
        let moment = Moment { index, ts: seen.ts };
        let actor = self.names.actors.id(&seen.actor);
        let tally = &mut self.pending;
        tally.entries += 1;
        count(&mut tally.types, self.names.types.id(&seen.event_type), index, 1);
        count(&mut tally.streams, self.names.streams.id(&link.stream), index, 1);
        tally.actors.entry(actor).or_default().seen_at(moment);
        if seen.by_our_clock {
            self.tick(moment);
        }
        match seen.what {
            What::Issued { uses, purpose, dialect } => {
                return Some(self.signed(moment, actor, &uses, purpose.as_deref(), dialect.as_deref()));
            }
            What::Failed { signer, code } => self.failed(moment, actor, signer, &code),
            What::Refused { code, principal, count } => {
                self.refused(moment, principal.as_deref(), &code, count);
            }
            What::Retired(signer) => {
                self.retired.entry(signer).or_insert(moment);
            }
            What::Verdict(word) => {
                count(&mut self.pending.verdicts, self.names.words.id(&word), index, 1);
            }
            What::Governed(event) => self.governed(moment, *event),
            What::Other => {}
        }
        None
    }

    /// The ledger's own clock, and its pauses.
    fn tick(&mut self, moment: Moment) {
        let tally = &mut self.pending;
        tally.first = tally.first.or(Some(moment));
        tally.last = Some(moment);
        if let Some(before) = self.clock.replace(moment) {
            let ms = moment.ts.unix_ms() - before.ts.unix_ms();
            tally.backwards += u64::from(ms < 0);
            tally.pause(Pause { ms, from: before, to: moment });
        }
    }

    fn signed(
        &mut self,
        moment: Moment,
        actor: NameId,
        uses: &[(SignerId, bool)],
        purpose: Option<&str>,
        dialect: Option<&str>,
    ) -> Mark {
        let purpose = purpose.map(|text| self.names.purposes.id(text));
        let dialect = self.names.words.id(dialect.unwrap_or("native"));
        for (signer, verifiable) in uses {
            let series = self.series(*signer);
            let tally = &mut self.pending;
            let key = tally.keys.entry(*signer).or_default();
            key.used_at(moment);
            let by = tally.actors.entry(actor).or_default();
            for counter in match verifiable {
                true => [&mut key.verified, &mut by.verified],
                false => [&mut key.recorded, &mut by.recorded],
            } {
                *counter += 1;
            }
            tally.pair(actor, *signer, 1);
            if let Some(purpose) = purpose {
                count(&mut tally.purposes, purpose, moment.index, 1);
            }
            count(&mut tally.dialects, dialect, moment.index, 1);
            tally.timeline.add(series, moment.ts.unix_ms(), 1);
        }
        Mark { ts: moment.ts, actor, purpose, dialect }
    }

    fn failed(&mut self, moment: Moment, actor: NameId, signer: Option<SignerId>, code: &str) {
        let tally = &mut self.pending;
        count(&mut tally.failures, self.names.words.id(code), moment.index, 1);
        tally.actors.entry(actor).or_default().failed += 1;
        if let Some(signer) = signer {
            tally.keys.entry(signer).or_default().failed += 1;
        }
        tally.timeline.add(Series::Failed, moment.ts.unix_ms(), 1);
    }

    fn refused(&mut self, moment: Moment, principal: Option<&str>, code: &str, requests: u64) {
        let tally = &mut self.pending;
        count(&mut tally.refusals, self.names.words.id(code), moment.index, requests);
        if let Some(name) = principal {
            tally.actors.entry(self.names.actors.id(name)).or_default().refused += requests;
        }
        tally.timeline.add(Series::Refused, moment.ts.unix_ms(), requests);
    }

    fn governed(&mut self, at: Moment, event: Event) {
        match event {
            Event::KillSwitch(it) => self.halts.push(HaltMark {
                at,
                scope: it.scope.to_string(),
                halted: it.state == HaltState::Halted,
                by: it.by.unwrap_or(it.source),
                reason: it.reason,
                approval: it.approval,
            }),
            Event::RotationApplied(it) => self.rotations.push(RotationMark {
                at,
                kid: it.kid.as_str().to_owned(),
                from: it.from.as_str().to_owned(),
                to: it.to.as_str().to_owned(),
                hand_over: it.hand_over,
            }),
            Event::Compromised(it) => self.compromises.push(CompromiseMark {
                at,
                signer_kid: it.signer_kid.as_str().to_owned(),
                since: it.since_index,
                suspect: it.suspect_signatures,
                by: it.by,
                reason: it.reason,
            }),
            _ => {}
        }
    }

    /// What was counted under signed roots.
    pub(crate) fn finish(self, trust: &Trust) -> Survey {
        let until = self.settled_until;
        let mut dropped = 0;
        let mut noted = BTreeMap::new();
        for (class, ends) in self.noted {
            dropped += ends.dropped();
            let kept = ends.all().filter(|it| it.index < until || class == Class::Finding);
            for mut one in kept {
                one.verified &= one.index < until;
                noted.insert(one.index, one);
            }
        }
        let Tally { keys, actors, pairs, .. } = &self.settled;
        let by_actor = pairs_by(pairs, |(actor, _)| *actor);
        let by_key = pairs_by(pairs, |(_, signer)| *signer);
        let name = |id: NameId| self.names.actors.text(id).unwrap_or("(others)").to_owned();
        let kid = |id: SignerId| trust.signer(id).name().to_owned();
        let actors_told = actors.len() as u64;
        let mut ranked: Vec<_> = actors.iter().map(|(id, tally)| (*id, *tally)).collect();
        let weight = |it: &ActorTally| it.verified + it.recorded;
        ranked.sort_by_cached_key(|(id, it)| {
            (id.is_others(), std::cmp::Reverse((weight(it), it.entries, it.refused)), name(*id))
        });
        let mut others = ActorTally::default();
        for (_, it) in ranked.iter().skip(RANKED_MAX) {
            others.entries += it.entries;
            others.verified += it.verified;
            others.recorded += it.recorded;
            others.failed += it.failed;
            others.refused += it.refused;
        }
        ranked.truncate(RANKED_MAX);
        let actors = ranked.into_iter().map(|(id, tally)| {
            let keys = top(by_actor.get(&id), |(_, signer)| kid(*signer));
            Actor { name: name(id), tally, keys }
        });
        let actors = actors.collect();
        let keys = keys.iter().map(|(id, tally)| {
            let callers = top(by_key.get(id), |(actor, _)| name(*actor));
            (*id, KeyUse { tally: *tally, callers, has_row: self.rows.contains(id) })
        });
        let keys = keys.collect();
        let (names, settled) = (&self.names, &self.settled);
        Survey {
            until,
            epochs: self.epochs,
            largest_epoch: self.largest_epoch,
            entries: settled.entries,
            flawed: self.flawed,
            taken_back: self.taken_back,
            first: settled.first,
            last: settled.last,
            types: Ranking::of(&settled.types, &names.types),
            streams: Ranking::of(&settled.streams, &names.streams),
            purposes: Ranking::of(&settled.purposes, &names.purposes),
            dialects: Ranking::of(&settled.dialects, &names.words),
            failures: Ranking::of(&settled.failures, &names.words),
            refusals: Ranking::of(&settled.refusals, &names.words),
            verdicts: Ranking::of(&settled.verdicts, &names.words),
            pauses: settled.pauses.iter().filter(|it| it.ms > 0).copied().collect(),
            backwards: settled.backwards,
            keys,
            actors,
            actors_told,
            other_actors: others,
            retired: self.retired.into_iter().filter(|(_, at)| at.index < until).collect(),
            halts_dropped: self.halts.dropped(),
            halts: self.halts.all().filter(|it| it.at.index < until).collect(),
            rotations_dropped: self.rotations.dropped(),
            rotations: self.rotations.all().filter(|it| it.at.index < until).collect(),
            compromises: self.compromises.all().filter(|it| it.at.index < until).collect(),
            timeline: self.settled.timeline,
            noted,
            noted_dropped: dropped,
            checkpoint: None,
        }
    }
}

/// A pair of caller and key, and how often they met.
type PairCount = ((NameId, SignerId), u64);

fn pairs_by<K: Ord>(
    pairs: &std::collections::HashMap<(NameId, SignerId), u64>,
    key: impl Fn(&(NameId, SignerId)) -> K,
) -> BTreeMap<K, Vec<PairCount>> {
    let mut sorted: BTreeMap<K, Vec<PairCount>> = BTreeMap::new();
    for (pair, count) in pairs.iter().filter(|(_, count)| **count > 0) {
        sorted.entry(key(pair)).or_default().push((*pair, *count));
    }
    sorted
}

/// The three most frequent, and how many more there are.
fn top(pairs: Option<&Vec<PairCount>>, name: impl Fn(&(NameId, SignerId)) -> String) -> Top {
    let mut named: Vec<_> = pairs.into_iter().flatten().map(|(pair, count)| (name(pair), *count)).collect();
    named.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
    let more = named.len().saturating_sub(3);
    named.truncate(3);
    Top { named, more }
}

/// The most frequent of many.
#[derive(Debug, Clone, Default)]
pub(crate) struct Top {
    pub(crate) named: Vec<(String, u64)>,
    pub(crate) more: usize,
}

/// One caller.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) tally: ActorTally,
    pub(crate) keys: Top,
}

/// What one key pair did, and for whom.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyUse {
    pub(crate) tally: KeyTally,
    pub(crate) callers: Top,
    pub(crate) has_row: bool,
}

/// Names by how often they came, most frequent first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranking {
    pub(crate) rows: Vec<(String, Count)>,
    /// Names told apart.
    pub(crate) names: u64,
    /// Counts of names that have no row.
    pub(crate) others: u64,
    /// Whether there were more names than could be told apart.
    pub(crate) is_cut: bool,
}

impl Ranking {
    fn of(counts: &Counts, names: &Names) -> Self {
        let mut rows: Vec<_> = counts
            .iter()
            .filter(|(_, it)| it.count > 0)
            .filter_map(|(id, it)| Some((names.text(*id)?.to_owned(), *it)))
            .collect();
        rows.sort_by(|(a, many), (b, more)| more.count.cmp(&many.count).then_with(|| a.cmp(b)));
        let beyond: u64 = counts.iter().filter(|(id, _)| id.is_others()).map(|(_, it)| it.count).sum();
        let unranked: u64 = rows.iter().skip(RANKED_MAX).map(|(_, it)| it.count).sum();
        let told = rows.len() as u64;
        rows.truncate(RANKED_MAX);
        Self { rows, names: told, others: beyond + unranked, is_cut: beyond > 0 }
    }

    /// Counts by name, of those that have a row.
    fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, it)| (name.clone(), it.count.into()));
        Value::Object(rows.collect())
    }

    /// Everything counted.
    pub(crate) fn total(&self) -> u64 {
        self.rows.iter().map(|(_, it)| it.count).sum::<u64>() + self.others
    }
}

/// The last checkpoint under which entries were counted, verified once more as it was read.
#[derive(Debug, Clone)]
pub(crate) struct LastCheckpoint {
    pub(crate) name: String,
    pub(crate) note: String,
}

/// What a verified ledger tells of itself.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Entries below this were verified; nothing else was counted.
    pub(crate) until: u64,
    /// Checkpoints to which they lead.
    pub(crate) epochs: u64,
    /// The checkpoint under which most entries came at once: from, to.
    pub(crate) largest_epoch: Option<(u64, u64)>,
    pub(crate) entries: u64,
    pub(crate) flawed: u64,
    pub(crate) taken_back: u64,
    pub(crate) first: Option<Moment>,
    pub(crate) last: Option<Moment>,
    pub(crate) types: Ranking,
    pub(crate) streams: Ranking,
    pub(crate) purposes: Ranking,
    pub(crate) dialects: Ranking,
    pub(crate) failures: Ranking,
    pub(crate) refusals: Ranking,
    pub(crate) verdicts: Ranking,
    pub(crate) pauses: Vec<Pause>,
    pub(crate) backwards: u64,
    pub(crate) keys: BTreeMap<SignerId, KeyUse>,
    pub(crate) actors: Vec<Actor>,
    pub(crate) actors_told: u64,
    pub(crate) other_actors: ActorTally,
    pub(crate) retired: BTreeMap<SignerId, Moment>,
    pub(crate) halts: Vec<HaltMark>,
    pub(crate) halts_dropped: u64,
    pub(crate) rotations: Vec<RotationMark>,
    pub(crate) rotations_dropped: u64,
    pub(crate) compromises: Vec<CompromiseMark>,
    pub(crate) timeline: Timeline,
    pub(crate) noted: BTreeMap<u64, Noted>,
    pub(crate) noted_dropped: u64,
    pub(crate) checkpoint: Option<LastCheckpoint>,
}

impl Survey {
    /// The counts for machines; beside a report, `--json` has them as `survey`.
    pub fn to_json(&self, trust: &Trust) -> Value {
        let keys: serde_json::Map<String, Value> = self
            .keys
            .iter()
            .map(|(id, key)| (trust.signer(*id).name().to_owned(), key_json(&key.tally)))
            .collect();
        let actors: serde_json::Map<String, Value> =
            self.actors.iter().map(|actor| (actor.name.clone(), actor_json(&actor.tally))).collect();
        json!({
            "verifiedUntil": self.until,
            "entries": self.entries,
            "notCounted": { "entries": self.flawed, "signatures": self.taken_back },
            "checkpoints": self.epochs,
            "keys": keys,
            "actors": actors,
            "actorsTotal": self.actors_told,
            "eventTypes": self.types.to_json(),
            "streams": self.streams.to_json(),
            "purposes": self.purposes.to_json(),
            "dialects": self.dialects.to_json(),
            "failures": self.failures.to_json(),
            "refusals": self.refusals.to_json(),
            "policyVerdicts": self.verdicts.to_json(),
            "signaturesOverTime": {
                "fromMs": self.timeline.start_ms(),
                "bucketSeconds": self.timeline.width_s(),
                "counts": self.timeline.signatures(),
            },
            "halts": self.halts.iter().filter(|mark| mark.halted).count(),
            "rotations": self.rotations.len(),
        })
    }
}

fn key_json(tally: &KeyTally) -> Value {
    json!({
        "verified": tally.verified, "recorded": tally.recorded, "failed": tally.failed,
        "first": tally.first.map(|moment| moment.index), "last": tally.last.map(|moment| moment.index),
    })
}

fn actor_json(tally: &ActorTally) -> Value {
    json!({
        "verified": tally.verified, "recorded": tally.recorded, "failed": tally.failed,
        "refused": tally.refused, "entries": tally.entries,
    })
}
