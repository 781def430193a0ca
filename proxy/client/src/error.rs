//! What can go wrong with a call.

use crate::problem::Problem;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made, in any attempt. The service or the network is at fault; nothing was
    /// sent; retry later.
    #[error("service unavailable: {0}")]
    Unavailable(String),
    /// The TLS handshake was refused by one side: an expired, revoked or foreign certificate. The
    /// configuration is at fault; nothing was asked; retrying cannot help.
    #[error("TLS refused: {0}")]
    Tls(String),
    /// The connection was lost after the request went out, in the last attempt too. The request may have
    /// been carried out; asking again with the same `Idempotency-Key` is safe and tells.
    #[error("connection lost, the request may have been carried out: {0}")]
    Interrupted(String),
    /// The deadline of the call passed. As [`ClientError::Interrupted`].
    #[error("no answer within {0} ms, the request may have been carried out")]
    Deadline(u64),
    /// The service refused. The problem says why; [`Problem::passing`] says whether the same request may
    /// pass later. Nothing was done unless the code names a failed key use.
    #[error("{0}")]
    Refused(Problem),
    /// The service answered with something this client cannot read. One side is wrong or too old; what
    /// was asked was probably done.
    #[error("unreadable reply: {0}")]
    Reply(String),
    /// A request could not be written: a caller's value does not fit a header or a path. Nothing was sent.
    #[error("invalid request: {0}")]
    Request(String),
}
