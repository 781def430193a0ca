//! What a check found: a stable vocabulary, the place, the side that is wrong as far as it can be proven, and the
//! runbook page that says what to do. Lists are bounded; counts are not.

use chancery_format::{TreeHead, TreeSize};

/// Findings kept with their text. More are counted: a disk that is gone has one for each entry.
pub const FINDINGS_MAX: usize = 1000;
/// Names of repaired objects kept. More are counted.
pub const REPAIRED_NAMES_MAX: usize = 100;

/// Which copy is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The ledger's own database or the files beside it.
    Store,
    /// The archive.
    Archive,
    /// They contradict each other, or the signed tree, and nothing proves which is right.
    Unknown,
}

impl Side {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Archive => "archive",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal in $page:literal;)*) => {
        /// What is wrong. The words never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The word in reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }

            /// The page in `runbooks/` that says what to do.
            pub const fn page(self) -> &'static str {
                match self { $(Self::$kind => $page,)* }
            }
        }
    };
}

kinds! {
    /// A stored leaf is not the one that was signed, or its own hash does not hold.
    LeafAltered = "leaf-altered" in "ledger_check.md";
    /// A leaf is not there or cannot be read.
    LeafUnreadable = "leaf-unreadable" in "ledger_check.md";
    /// A leaf's id names another index, or is not in the index of ids.
    LeafId = "leaf-id" in "ledger_check.md";
    /// A leaf does not follow the one before it in its stream.
    StreamBroken = "stream-broken" in "ledger_check.md";
    /// A stream's stored head is not its last leaf, or the index of a stream is wrong.
    StreamHead = "stream-head" in "ledger_check.md";
    /// A stored head of a stream or a key, from which its completeness is proven, is not that of its entries.
    HeadsDiffer = "heads-differ" in "ledger_check.md";
    /// Where a key was used is not stored as the entries have it.
    KeyUsesDiffer = "key-uses-differ" in "ledger_check.md";
    /// A stored tile is not that of its leaves.
    TileAltered = "tile-altered" in "ledger_check.md";
    /// A checkpoint is not signed by the ledger's keys, or is not one.
    CheckpointInvalid = "checkpoint-invalid" in "ledger_check.md";
    /// A checkpoint is signed, and no copy of the entries leads to its root.
    RootMismatch = "root-mismatch" in "ledger_check.md";
    /// Two signed checkpoints of one size have different roots.
    Fork = "fork" in "restore.md";
    /// The stored tree head is not that of the stored leaves.
    HeadDisagrees = "head-disagrees" in "ledger_check.md";
    /// The high-water mark is damaged, or speaks of entries that are not there.
    HighWater = "high-water" in "restore.md";
    /// An open intent cannot be read, or has an outcome already.
    Intent = "intent" in "ledger_check.md";
    /// A published registry version is not recorded as it was published.
    RegistryInvalid = "registry-invalid" in "ledger_check.md";
    /// The plan of archive epochs does not hold together.
    EpochInvalid = "epoch-invalid" in "ledger_check.md";
    /// Copies differ, and no signed checkpoint says which is right.
    CopiesDiffer = "copies-differ" in "ledger_check.md";
    /// The archive lacks an object that was shipped.
    ObjectMissing = "object-missing" in "ledger_check.md";
    /// An archived object holds other bytes than it must.
    ObjectAltered = "object-altered" in "verifier_says_bad.md";
    /// The archive has an object that is beyond the ledger: an older disk was restored, or another daemon writes there.
    ObjectBeyond = "object-beyond" in "restore.md";
    /// The archive has an object that is none of the layout's.
    ObjectForeign = "object-foreign" in "verifier_says_bad.md";
    /// An archived object is not locked as it must be.
    ObjectUnlocked = "object-unlocked" in "incident_archive.md";
    /// Something was laid over an archived object.
    ObjectOverlaid = "object-overlaid" in "verifier_says_bad.md";
    /// The archive refuses to show an object: nothing can be said about it.
    ObjectUnreadable = "object-unreadable" in "incident_archive.md";
}

impl Kind {
    /// Whether it is about what can be derived again from the entries ([`Heads::derive_again`](crate::Heads::derive_again)).
    pub const fn is_derived(self) -> bool {
        matches!(self, Self::HeadsDiffer | Self::KeyUsesDiffer)
    }

    /// Whether it says that nothing can be said.
    pub const fn is_undecided(self) -> bool {
        matches!(self, Self::ObjectUnreadable)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// Which copy is wrong.
    pub side: Side,
    /// Whether a signed checkpoint proves that.
    pub proven: bool,
    /// The entry it is about.
    pub index: Option<u64>,
    /// The archived object, or the stored one by the same name.
    pub object: Option<String>,
    /// Whether the object was shipped again, which ends the matter.
    pub repaired: bool,
    /// One sentence.
    pub message: String,
}

impl Finding {
    pub(crate) fn new(kind: Kind, side: Side, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, side, proven: false, index: None, object: None, repaired: false, message }
    }

    pub(crate) fn at(self, index: u64) -> Self {
        Self { index: Some(index), ..self }
    }

    pub(crate) fn of(self, object: impl ToString) -> Self {
        Self { object: Some(object.to_string()), ..self }
    }

    pub(crate) fn proven(self, proven: bool) -> Self {
        Self { proven, ..self }
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leaves.
    pub entries: u64,
    /// Full tiles of the store, of all levels.
    pub tiles: u64,
    /// Recorded checkpoints.
    pub checkpoints: u64,
    /// Streams.
    pub streams: u64,
    /// Stored heads of streams and keys.
    pub heads: u64,
    /// Archived objects whose bytes were compared.
    pub objects: u64,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong, or all that was is repaired.
    Clean,
    /// Something is wrong.
    Findings,
    /// Nothing is known to be wrong, and not everything could be looked at.
    Undecided,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The stored head at the beginning: what was checked.
    pub head: TreeHead,
    /// Entries under the newest signed checkpoint whose root both ways lead to.
    pub proven: TreeSize,
    /// What was looked at.
    pub counts: Counts,
    /// The first [`FINDINGS_MAX`] findings.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
    /// Objects that were shipped again.
    pub repaired: u64,
    /// The first [`REPAIRED_NAMES_MAX`] of them.
    pub repaired_names: Vec<String>,
    /// Findings that are left: neither repaired nor undecided.
    pub wrong: u64,
    /// Findings that say that nothing can be said.
    pub undecided: u64,
}

impl CheckReport {
    pub(crate) fn new(head: TreeHead) -> Self {
        Self {
            head,
            proven: TreeSize(0),
            counts: Counts::default(),
            findings: Vec::new(),
            more: 0,
            repaired: 0,
            repaired_names: Vec::new(),
            wrong: 0,
            undecided: 0,
        }
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        if finding.repaired {
            self.repaired += 1;
            if self.repaired_names.len() < REPAIRED_NAMES_MAX {
                self.repaired_names.extend(finding.object.clone());
            }
        } else if finding.kind.is_undecided() {
            self.undecided += 1;
        } else {
            self.wrong += 1;
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// Whether a finding says that an entry is not in the store as it was signed.
    pub(crate) fn has_altered_leaves(&self) -> bool {
        let about_leaves = |it: &Finding| matches!(it.kind, Kind::LeafAltered | Kind::LeafUnreadable);
        self.findings.iter().any(about_leaves)
    }

    /// Whether heads of streams and keys differ, and the entries they follow from are proven: then they may be derived
    /// again.
    pub fn may_derive(&self) -> bool {
        let mut derived = self.findings.iter().filter(|it| it.kind.is_derived() && !it.repaired).peekable();
        derived.peek().is_some() && derived.all(|it| it.proven)
    }

    /// They were derived again, which ends the matter.
    pub fn derived_again(&mut self) {
        for finding in self.findings.iter_mut().filter(|it| it.kind.is_derived() && !it.repaired) {
            finding.repaired = true;
            self.wrong -= 1;
        }
    }

    /// How it ended.
    pub const fn verdict(&self) -> Verdict {
        match (self.wrong, self.undecided) {
            (0, 0) => Verdict::Clean,
            (0, _) => Verdict::Undecided,
            _ => Verdict::Findings,
        }
    }
}
