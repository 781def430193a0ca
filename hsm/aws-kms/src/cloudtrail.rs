//! What AWS itself recorded of our keys' uses, read from exported CloudTrail files.
//!
//! CloudTrail writes one record for every call of `Sign` and `GenerateMac`, whoever made it. A record without
//! an attempt of ours behind it is a use of the key past the ledger. [`TrailReader`] takes files as AWS
//! delivers them (`{"Records":[…]}`, plain or in gzip), keeps the key uses, drops repetitions (CloudTrail may
//! deliver an event twice) and puts them in order of time.
//!
//! How to match: per key, count the records with [`KeyUseRecord::operation`] `succeeded` against the ledger's
//! uses in the same hours; an attempt whose end we did not see may or may not have one. Which record belongs
//! to which attempt, the request ids tell: `attempt.rs` logs each answer's at debug. Records come up to 15
//! minutes after the call, in no order, and a missing file is not visible here: AWS's digest files are for
//! that.
//!
//! Refuses: what is not such a file, records that lack what every record has, key uses without a request id
//! or a time, and anything beyond the bounds in `limits.rs`. Other services' and other operations' records
//! are passed over. Whoever can write into the trail's bucket could make up records or remove them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use chancery_format::Timestamp;
use chancery_hsm::DeviceOperation;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::limits::{
    LABEL_BYTES_MAX, TRAIL_FILE_BYTES_MAX, TRAIL_JSON_BYTES_MAX, TRAIL_RECORD_BYTES_MAX, TRAIL_RECORDS_MAX,
};
use crate::names::is_key_arn;

/// The source of KMS's events.
const KMS: &str = "kms.amazonaws.com";
/// The events that are uses of a key.
const KEY_USES: [&str; 2] = ["Sign", "GenerateMac"];
/// Asked whether it would have worked; nothing was signed.
const DRY_RUN: &str = "DryRunOperationException";

/// One use of a key, as AWS recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUseRecord {
    /// The use, for comparison with other devices'. Its number counts the reading's records from 1 in order
    /// of time, since CloudTrail numbers nothing; its evidence is the record's own JSON.
    pub operation: DeviceOperation,
    /// When AWS took the call, to the second.
    pub time: Timestamp,
    /// The request's id: what KMS told the caller in `x-amzn-RequestId`.
    pub request_id: String,
    /// The event's id, unique in CloudTrail.
    pub event_id: String,
    /// The key's ARN; `None` if the call failed before KMS knew which.
    pub key_arn: Option<String>,
    /// Who called; `None` for callers without an ARN, such as AWS's own services.
    pub principal_arn: Option<String>,
    /// The signing or MAC algorithm in KMS's words.
    pub algorithm: Option<String>,
    /// Why it failed; `None` if it did not.
    pub error_code: Option<String>,
}

/// Why a file was not read. Whoever exported it is at fault; retrying helps only with [`TrailError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file, packed or unpacked, is larger than CloudTrail makes them.
    #[error("{what}: more than {max} bytes")]
    TooLarge {
        /// Which file or record.
        what: String,
        /// The bound.
        max: u64,
    },
    /// More key uses than one reading holds.
    #[error("more than {TRAIL_RECORDS_MAX} records; read fewer files at once")]
    TooMany,
    /// No CloudTrail file, or one that was cut short.
    #[error("{file}: not a CloudTrail file: {reason}")]
    Malformed {
        /// Which file.
        file: String,
        /// Where and why.
        reason: String,
    },
    /// Two different records under one id.
    #[error("event {0} stands there twice, differently")]
    Contradiction(String),
}

/// Collects the key uses of any number of files.
#[derive(Debug, Default)]
pub struct TrailReader {
    by_event: BTreeMap<String, KeyUseRecord>,
}

impl TrailReader {
    /// One with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one exported file, unpacking it if it begins as gzip does. On an error nothing of it is kept.
    pub fn read_file(&mut self, path: &Path) -> Result<(), TrailError> {
        let io = |source| TrailError::Io { path: path.to_path_buf(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let name = path.display().to_string();
        let packed = bounded(file, TRAIL_FILE_BYTES_MAX, &name)?.map_err(io)?;
        self.read_bytes(&name, &packed)
    }

    /// Reads the content of one exported file; `name` is for errors.
    pub fn read_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrailError> {
        let unpacked;
        let json = if bytes.starts_with(&[0x1F, 0x8B]) {
            let read = bounded(MultiGzDecoder::new(bytes), TRAIL_JSON_BYTES_MAX, name)?;
            unpacked = read.map_err(|error| malformed(name, error))?;
            unpacked.as_slice()
        } else {
            bytes
        };
        let found = key_uses(name, json)?;
        if self.by_event.len().saturating_add(found.len()) > TRAIL_RECORDS_MAX {
            return Err(TrailError::TooMany);
        }
        for record in &found {
            let known = self.by_event.get(&record.event_id);
            if known.is_some_and(|known| !same_event(known, record)) {
                return Err(TrailError::Contradiction(record.event_id.clone()));
            }
        }
        for record in found {
            self.by_event.entry(record.event_id.clone()).or_insert(record);
        }
        Ok(())
    }

    /// All records in order of time, numbered. `label_of` gives the configured label of a key's ARN, `None`
    /// for keys that are not ours.
    pub fn finish(self, label_of: impl Fn(&str) -> Option<String>) -> Vec<KeyUseRecord> {
        let mut records: Vec<_> = self.by_event.into_values().collect();
        records.sort_by(|a, b| (a.time, &a.event_id).cmp(&(b.time, &b.event_id)));
        for (number, record) in (1..).zip(&mut records) {
            record.operation.number = number;
            record.operation.label = record.key_arn.as_deref().and_then(&label_of);
        }
        records
    }
}

/// Everything, or the error for more than `max` bytes.
fn bounded(source: impl Read, max: u64, what: &str) -> Result<Result<Vec<u8>, std::io::Error>, TrailError> {
    let mut bytes = Vec::new();
    match source.take(max.saturating_add(1)).read_to_end(&mut bytes) {
        Ok(count) if count as u64 > max => Err(TrailError::TooLarge { what: what.to_owned(), max }),
        Ok(_) => Ok(Ok(bytes)),
        Err(error) => Ok(Err(error)),
    }
}

fn malformed(file: &str, reason: impl ToString) -> TrailError {
    TrailError::Malformed { file: file.to_owned(), reason: reason.to_string() }
}

/// Deliveries of one event differ in nothing that counts.
fn same_event(a: &KeyUseRecord, b: &KeyUseRecord) -> bool {
    let parts = |record: &KeyUseRecord| {
        let KeyUseRecord {
            operation, time, request_id, key_arn, principal_arn, algorithm, error_code, ..
        } = record.clone();
        (operation.command, time, request_id, key_arn, principal_arn, algorithm, error_code)
    };
    parts(a) == parts(b)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
}

/// What every record has. Texts may hold escapes, so they may need a copy.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(rename = "eventVersion", borrow)]
    _version: Cow<'a, str>,
    #[serde(borrow)]
    event_source: Cow<'a, str>,
    #[serde(borrow)]
    event_name: Cow<'a, str>,
}

/// What a key's use has besides.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    event_time: String,
    #[serde(rename = "eventID")]
    event_id: String,
    #[serde(rename = "requestID")]
    request_id: String,
    user_identity: Identity,
    request_parameters: Option<Parameters>,
    resources: Option<Vec<Resource>>,
    error_code: Option<String>,
}

#[derive(Deserialize)]
struct Identity {
    arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    key_id: Option<String>,
    signing_algorithm: Option<String>,
    mac_algorithm: Option<String>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "ARN")]
    arn: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

fn key_uses(name: &str, json: &[u8]) -> Result<Vec<KeyUseRecord>, TrailError> {
    let file: File<'_> = serde_json::from_slice(json).map_err(|error| malformed(name, error))?;
    let mut found = Vec::new();
    for (index, raw) in file.records.iter().enumerate() {
        let at = |reason: String| malformed(name, format!("record {index}: {reason}"));
        let head: Head<'_> = serde_json::from_str(raw.get()).map_err(|error| at(error.to_string()))?;
        if head.event_source != KMS || !KEY_USES.contains(&head.event_name.as_ref()) {
            continue;
        }
        if raw.get().len() > TRAIL_RECORD_BYTES_MAX {
            let what = format!("{name}: record {index}");
            return Err(TrailError::TooLarge { what, max: TRAIL_RECORD_BYTES_MAX as u64 });
        }
        found.push(key_use(&head.event_name, raw.get()).map_err(at)?);
        if found.len() > TRAIL_RECORDS_MAX {
            return Err(TrailError::TooMany);
        }
    }
    Ok(found)
}

fn key_use(command: &str, json: &str) -> Result<KeyUseRecord, String> {
    let body: Body = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for (what, id) in [("requestID", &body.request_id), ("eventID", &body.event_id)] {
        if id.is_empty() || id.len() > LABEL_BYTES_MAX {
            return Err(format!("{what} is no id"));
        }
    }
    let time =
        time_of(&body.event_time).ok_or_else(|| format!("eventTime \"{}\" is no time", body.event_time))?;
    let parameters = body.request_parameters;
    let named = parameters.as_ref().and_then(|given| given.key_id.clone()).filter(|key| is_key_arn(key));
    let resolved = body.resources.unwrap_or_default().into_iter().find_map(|resource| {
        let is_key = resource.kind.as_deref().is_none_or(|kind| kind == "AWS::KMS::Key");
        resource.arn.filter(|arn| is_key && is_key_arn(arn))
    });
    let key_arn = resolved.or(named);
    let succeeded = body.error_code.is_none();
    if succeeded && key_arn.is_none() {
        return Err("a use that succeeded names no key".to_owned());
    }
    Ok(KeyUseRecord {
        operation: DeviceOperation {
            number: 0, // given at the end, in order of time
            command: command.to_owned(),
            label: None,
            uses_key: body.error_code.as_deref() != Some(DRY_RUN),
            succeeded,
            evidence: json.to_owned(),
        },
        time,
        request_id: body.request_id,
        event_id: body.event_id,
        key_arn,
        principal_arn: body.user_identity.arn,
        algorithm: parameters.and_then(|given| given.signing_algorithm.or(given.mac_algorithm)),
        error_code: body.error_code,
    })
}

/// CloudTrail writes whole seconds: `2026-11-21T03:46:35Z`.
fn time_of(text: &str) -> Option<Timestamp> {
    format!("{}.000Z", text.strip_suffix('Z')?).parse().ok()
}

#[cfg(test)]
mod tests;
