//! Every bound of this crate, with unit and reason. None is configurable: they keep a reload short and a
//! mistake small, and no honest policy comes near them.

/// Most `*.cedar` files, and most files of cases, in one folder. A folder with more is a wrong folder.
pub const FILES_MAX: usize = 256;

/// Longest file in bytes. A reload reads and hashes every file whole, in memory.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Most policies of a set, over all files. Up to here a load takes seconds and a decision stays short.
pub const POLICIES_MAX: usize = 10_000;

/// Longest policy in bytes, annotations included. Longer ones nobody reviews.
pub const POLICY_BYTES_MAX: usize = 16 * 1024;

/// Deepest nesting of brackets in a policy. Parser and evaluator recurse, and the stack is finite.
pub const NESTING_MAX: usize = 32;

/// Most operators and clauses of a policy. As for brackets: a chain of `&&` is as deep as it is long, and
/// sets say more with less. An `if` counts 16.
pub const OPERATORS_MAX: usize = 128;

/// Most problems told at once. Beyond it they repeat themselves.
pub const PROBLEMS_MAX: usize = 1_000;

/// Longest policy id in bytes. Ids stand in leaves and log lines.
pub const POLICY_ID_BYTES_MAX: usize = 64;

/// Longest name of a role or hook in an annotation, in bytes. As for ids.
pub const ANNOTATION_NAME_BYTES_MAX: usize = 64;

/// Most approvals one policy may ask for. More people than that are never reachable together.
pub const APPROVALS_MAX: u8 = 16;

/// Deepest condition the guard looks into. What lies deeper is left to Cedar.
pub const GUARD_DEPTH_MAX: usize = 64;

/// Most policies an explanation lists as nearly applying. A person reads no more.
pub const NEARLY_MAX: usize = 50;
