//! What a verification found: the kind, the place and the reason of everything that is not as it must be.
//!
//! Kinds are stable names that scripts may match on. A finding is *bad* (the evidence contradicts
//! itself or the registry), *missing* (something that must be there is not, so nothing can be said), or
//! a *warning* (worth knowing, proves nothing wrong). Every finding is counted; the list is bounded.

use std::fmt;

/// Longest list of bad and missing findings, and of warnings; the rest is only counted.
pub const LISTED_MAX: usize = 1_000;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Checked and found bad.
    Bad,
    /// Evidence is missing or unreadable: it cannot be decided.
    Missing,
    /// Worth knowing; does not make the evidence invalid.
    Warning,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $text:literal $weight:ident,)*) => {
        /// What kind of thing was found. The names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable name, kebab-case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it weighs unless the place makes it lighter.
            pub const fn weight(self) -> Weight {
                match self { $(Self::$name => Weight::$weight,)* }
            }
        }
    };
}

kinds! {
    /// A name that no archive of this format has.
    UnknownFile "unknown-file" Bad,
    /// A link, device or pipe where a file belongs.
    NotAFile "not-a-file" Bad,
    /// Larger than anything of its name can be.
    OversizedFile "oversized-file" Bad,
    /// Must be there and is not.
    MissingFile "missing-file" Missing,
    /// Is there and cannot be read.
    UnreadableFile "unreadable-file" Missing,
    /// Under the size of the archive, but no checkpoint asks for it.
    UnexpectedFile "unexpected-file" Bad,
    /// Beyond every checkpoint: its epoch is being written, or its checkpoint was removed.
    UncoveredFile "uncovered-file" Missing,
    /// An object was written again with other bytes; the first version was read.
    OverwrittenObject "overwritten-object" Bad,
    /// An object was written again with the same bytes.
    RepeatedObject "repeated-object" Warning,
    /// An object carries a delete marker; the version under it was read.
    DeletedObject "deleted-object" Bad,
    /// A version came by multipart upload, whose date can precede its completion; it was not read.
    MultipartObject "multipart-object" Bad,
    /// The archive holds no checkpoint at all.
    NoCheckpoint "no-checkpoint" Missing,
    /// A checkpoint is malformed, of another origin, or not signed by a key of the registry.
    CheckpointInvalid "checkpoint-invalid" Bad,
    /// An archived note carries a signature line by a key the registry does not know.
    UnknownSignature "unknown-signature" Bad,
    /// Too few of the policy's witnesses cosigned the checkpoint.
    NotWitnessed "not-witnessed" Bad,
    /// An archived cosigned checkpoint is malformed, not of this tree, or bears a false line.
    WitnessedInvalid "witnessed-checkpoint-invalid" Bad,
    /// Sizes of checkpoints do not grow from epoch to epoch.
    CheckpointOrder "checkpoint-order" Bad,
    /// The ledger key of a checkpoint was not active where it stands.
    CheckpointSigner "checkpoint-signer-not-active" Bad,
    /// The entries do not lead to the root that was signed.
    RootMismatch "root-mismatch" Bad,
    /// The archive does not continue the older checkpoint given.
    NotConsistent "not-consistent" Bad,
    /// The archive is shorter than the older checkpoint given: something was rolled back.
    RolledBack "rolled-back" Bad,
    /// A bundle is truncated or holds another number of entries than its name says.
    BundleMalformed "bundle-malformed" Bad,
    /// A tail bundle differs from the entries archived later.
    TailMismatch "tail-bundle-mismatch" Bad,
    /// A hash tile does not follow from what is below it.
    TileMismatch "tile-mismatch" Bad,
    /// A leaf is not a canonical event of this format.
    LeafInvalid "leaf-invalid" Bad,
    /// An event's `hash` is not that of its content.
    EventHash "event-hash-mismatch" Bad,
    /// A stream's chain is broken: position or link.
    ChainBroken "chain-broken" Bad,
    /// An event id names another index than its own.
    IdMismatch "id-mismatch" Bad,
    /// The first event does not open this ledger, or a later one does.
    LedgerOpened "ledger-opened-invalid" Bad,
    /// An event of the appliance's own kind, written by somebody else.
    ReservedEvent "reserved-event" Bad,
    /// A payload of the appliance is not of its shape.
    PayloadInvalid "payload-invalid" Bad,
    /// A leaf stands under a ledger key the registry does not know, or that was not active.
    LedgerKey "ledger-key-not-active" Bad,
    /// A signer is not in the given registry.
    SignerUnknown "signer-unknown" Bad,
    /// Ledger and registry disagree about a signer's key, algorithm or name.
    SignerMismatch "signer-mismatch" Bad,
    /// Ledger and registry disagree about when a signer was active.
    SignerState "signer-state-mismatch" Bad,
    /// A signature by a key that was not active at its index.
    SignerNotActive "signer-not-active" Bad,
    /// A signature at or after the index from which its key is compromised.
    SignerCompromised "signer-compromised" Bad,
    /// A signature that stands between a halt of its scope and the entry that ends it.
    SignedWhileHalted "signed-while-halted" Bad,
    /// An act that needs a quorum has none, or a forged one.
    QuorumInvalid "quorum-invalid" Bad,
    /// An act of people breaks another rule.
    GovernanceInvalid "governance-invalid" Bad,
    /// An individual signature does not verify.
    SignatureInvalid "signature-invalid" Bad,
    /// An archived registry is malformed or differs from what the ledger published.
    RegistryMismatch "registry-mismatch" Bad,
    /// The note beside an archived registry does not sign it.
    RegistrySignature "registry-signature-invalid" Bad,
    /// Published registry versions do not count up by one.
    RegistryOrder "registry-order" Bad,
    /// The given registry is none that the ledger published.
    RegistryNotPublished "registry-not-published" Warning,
    /// The given registry does not know of a retirement on the ledger.
    RegistryOutdated "registry-outdated" Warning,
    /// An enrolled map of heads does not sum up the entries below its size.
    HeadsMismatch "heads-mismatch" Bad,
    /// A completeness proof is malformed, or of something else.
    CompletenessInvalid "completeness-invalid" Bad,
    /// The entries given are not all that the ledger has.
    NotComplete "not-complete" Bad,
    /// A canary key signed.
    CanarySigned "canary-signed" Bad,
    /// A receipt is malformed.
    ReceiptInvalid "receipt-invalid" Bad,
    /// An `.evidence` file is malformed, or a part of it is none.
    EvidenceInvalid "evidence-invalid" Bad,
    /// Nothing outside an `.evidence` file vouches for the keys in it.
    NoTrustAnchor "no-trust-anchor" Missing,
    /// A receipt's inclusion proof does not lead to its checkpoint.
    InclusionInvalid "inclusion-proof-invalid" Bad,
    /// A row of another writer's chain that cannot be read.
    RowInvalid "row-invalid" Bad,
    /// A row's content has another hash than it says.
    HashMismatch "hash-mismatch" Bad,
    /// A row is followed by several, or a ledger has two signed histories.
    Fork "fork" Bad,
    /// The row before is not there.
    Gap "gap" Bad,
    /// The rows do not end with the head that is known.
    Truncated "truncated" Bad,
    /// A row without signature.
    Unsigned "unsigned" Bad,
    /// Whose signature it is said to be is not among the given keys.
    UnknownSigner "unknown-signer" Missing,
    /// A signature by a key that was not in use at the row's time.
    KeyNotValidThen "key-not-valid-then" Bad,
    /// An object names a member twice.
    DuplicateJsonKey "duplicate-json-key" Warning,
    /// Columns that the writer's hash does not bind.
    UnboundField "unbound-field" Warning,
    /// Rows of a writer that never signs.
    NeverSigned "never-signed" Warning,
    /// A signature whose row does not say whose it is; one of the given keys fits.
    SignerResolved "signer-resolved" Warning,
    /// A signature over a time that is stored nowhere and was searched for.
    TimeSearched "signing-time-searched" Warning,
    /// Not all of a chain was asked for.
    Partial "partial-chain" Warning,
    /// A document that is not what it should be.
    DocumentInvalid "document-invalid" Bad,
    /// A member contradicts what is signed, or what is there.
    MemberMismatch "member-mismatch" Bad,
    /// A proof without the rows it is about.
    RowsNotGiven "rows-not-given" Warning,
    /// Several roles signed with one key.
    RolesShareKey "roles-share-key" Warning,
    /// Authentication codes, which outsiders cannot verify.
    MacNotVerifiable "mac-not-verifiable" Warning,
    /// A proof of consistency fails, or cannot exist.
    ConsistencyInvalid "consistency-proof-invalid" Bad,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// What it weighs here.
    pub weight: Weight,
    /// Index of the entry, if it is about one.
    pub index: Option<u64>,
    /// Name of the file or object, if it is about one.
    pub file: Option<String>,
    /// Why, for people.
    pub message: String,
}

impl Finding {
    /// About the archive as a whole.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, weight: kind.weight(), index: None, file: None, message: message.into() }
    }

    /// About one file.
    pub fn file(kind: Kind, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: Some(file.into()), ..Self::new(kind, message) }
    }

    /// About one entry.
    pub fn entry(kind: Kind, index: u64, message: impl Into<String>) -> Self {
        Self { index: Some(index), ..Self::new(kind, message) }
    }

    /// The same, about one file too.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Missing instead of bad, where evidence that could explain it is missing.
    #[must_use]
    pub fn missing_if(mut self, evidence_is_missing: bool) -> Self {
        if evidence_is_missing && self.weight == Weight::Bad {
            self.weight = Weight::Missing;
        }
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.weight {
            Weight::Bad => "error",
            Weight::Missing => "missing",
            Weight::Warning => "warning",
        };
        write!(f, "{word}: {}", self.kind)?;
        if let Some(index) = self.index {
            write!(f, " at entry {index}")?;
        }
        if let Some(file) = &self.file {
            write!(f, " in {file:?}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything found: all counted, the first of each weight listed.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    listed: Vec<Finding>,
    warnings_listed: usize,
    bad: u64,
    missing: u64,
    warnings: u64,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        let (count, listed) = match finding.weight {
            Weight::Bad => (&mut self.bad, self.listed.len() - self.warnings_listed),
            Weight::Missing => (&mut self.missing, self.listed.len() - self.warnings_listed),
            Weight::Warning => (&mut self.warnings, self.warnings_listed),
        };
        *count += 1;
        // The first bad one is always listed, however much was missing before it.
        if listed < LISTED_MAX || (finding.weight == Weight::Bad && *count == 1) {
            self.warnings_listed += usize::from(finding.weight == Weight::Warning);
            self.listed.push(finding);
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: Self) {
        let unlisted = |weight: Weight, count: u64| {
            count - other.listed.iter().filter(|finding| finding.weight == weight).count() as u64
        };
        self.bad += unlisted(Weight::Bad, other.bad);
        self.missing += unlisted(Weight::Missing, other.missing);
        self.warnings += unlisted(Weight::Warning, other.warnings);
        self.extend(other.listed);
    }

    /// As they were when they were written down: those listed, and how many of each weight there were.
    pub(crate) fn resumed(listed: Vec<Finding>, [bad, missing, warnings]: [u64; 3]) -> Self {
        let warnings_listed = listed.iter().filter(|finding| finding.weight == Weight::Warning).count();
        Self { listed, warnings_listed, bad, missing, warnings }
    }

    /// Those listed, by weight, entry and file.
    pub fn sorted(mut self) -> Self {
        let key = |f: &Finding| (f.weight, f.index.unwrap_or(u64::MAX), f.file.clone(), f.kind);
        self.listed.sort_by_cached_key(key);
        self
    }

    /// Those listed.
    pub fn listed(&self) -> &[Finding] {
        &self.listed
    }

    /// How many are bad.
    pub const fn bad(&self) -> u64 {
        self.bad
    }

    /// How many say that evidence is missing.
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// How many are warnings.
    pub const fn warnings(&self) -> u64 {
        self.warnings
    }

    /// Whether nothing is bad or missing.
    pub const fn is_valid(&self) -> bool {
        self.bad == 0 && self.missing == 0
    }
}

impl Extend<Finding> for Findings {
    fn extend<I: IntoIterator<Item = Finding>>(&mut self, findings: I) {
        for finding in findings {
            self.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_kebab_case_and_unique() {
        let mut seen = std::collections::HashSet::new();
        for kind in Kind::ALL {
            assert!(kind.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{kind}");
            assert!(seen.insert(kind.as_str()), "{kind} twice");
        }
    }

    #[test]
    fn the_list_is_bounded_the_counts_are_not_and_the_first_bad_one_is_always_named() {
        let mut findings = Findings::default();
        for number in 0..2_000 {
            findings.push(Finding::entry(Kind::MissingFile, number, ""));
            findings.push(Finding::entry(Kind::RegistryOutdated, number, ""));
        }
        findings.push(Finding::entry(Kind::ChainBroken, 7, ""));
        findings.push(Finding::entry(Kind::ChainBroken, 8, ""));
        assert_eq!((findings.bad(), findings.missing(), findings.warnings()), (2, 2_000, 2_000));
        let findings = findings.sorted();
        assert_eq!(findings.listed().len(), 2 * LISTED_MAX + 1);
        assert_eq!(findings.listed().first().map(|f| (f.kind, f.index)), Some((Kind::ChainBroken, Some(7))));
    }
}
