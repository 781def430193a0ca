"""What can go wrong, by whose fault and whether asking again can help. Programs decide by class and ``code``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .replies import Pending


@dataclass(frozen=True)
class Problem:
    """An ``application/problem+json`` body (RFC 9457): why the service refused."""

    #: HTTP status.
    status: int
    #: Stable, kebab-case: what programs decide by.
    code: str
    #: One line for people.
    title: str
    #: What was wrong with this request.
    detail: Optional[str]
    #: Finds the request in the service's log.
    request_id: Optional[str]


class ChanceryError(Exception):
    """The base of every error of this package."""

    #: Stable: a problem's own code, or this package's word for what happened.
    code: str = "error"
    #: Whether the same request under the same ``idempotency_key`` may pass a moment later.
    retryable: bool = False
    #: The key the request went out under; repeat the call with it and nothing is done twice.
    idempotency_key: Optional[str] = None


class ConfigurationError(ChanceryError):
    """The options cannot be used: a wrong URL, a missing or foreign file. Nothing was sent."""

    code = "configuration"


class InvalidRequestError(ChanceryError):
    """A value that does not fit a request. The caller is at fault; nothing was sent."""

    code = "invalid-request"


class UnavailableError(ChanceryError):
    """No connection could be made, in any attempt. Nothing was sent."""

    code = "unavailable"
    retryable = True


class TlsError(ChanceryError):
    """One side refused the other's certificate. The configuration is at fault; nothing was asked."""

    code = "tls"


class InterruptedCallError(ChanceryError):
    """The connection was lost after the request went out, in the last attempt too: it may have been carried out."""

    code = "interrupted"
    retryable = True


class DeadlineError(ChanceryError):
    """The call's deadline passed. As `InterruptedCallError`."""

    code = "deadline"
    retryable = True


class ReplyError(ChanceryError):
    """The service answered what this client cannot read, or about another request. It was probably carried out."""

    code = "unreadable-reply"


class PendingError(ChanceryError):
    """A signature waits for people's approval. Repeat the call under the same key, or look with ``pending``."""

    code = "pending-approval"

    def __init__(self, pending: Pending) -> None:
        super().__init__(f"waits for approval: {pending.approvals} of {pending.required}")
        self.pending = pending


#: Refusals under which nothing was decided yet: the same request under the same key may pass soon. A failed key
#: use is not among them, because its outcome stands under its key for good.
PASSING = frozenset(["overloaded", "draining", "rate-limited", "body-timeout", "release-pending", "request-in-flight"])


class RefusedError(ChanceryError):
    """The service refused. ``retry_after_s`` is what ``Retry-After`` asked for, in seconds."""

    def __init__(self, problem: Problem, retry_after_s: Optional[float] = None) -> None:
        request = f" (request {problem.request_id})" if problem.request_id else ""
        super().__init__(f"{problem.status} {problem.code}: {problem.detail or problem.title}{request}")
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.code = problem.code
        self.status = problem.status
        self.request_id = problem.request_id
        self.retryable = problem.code in PASSING


class ReceiptError(ChanceryError):
    """A receipt does not prove what it should. Keep it: it is evidence against who made it.

    ``fault`` is ``shape`` (not a receipt of version 1), ``event`` (no leaf of this format, or altered),
    ``checkpoint`` (not signed by the registry's ledger), ``inclusion`` (the proof does not lead to the root),
    ``signer`` (the key is not in the registry, not the one asked for, or was not active at this index),
    ``signature`` (the individual signature does not verify), ``another-request`` (good, but not about what was
    asked) or ``unsupported`` (the algorithm cannot be verified here: nothing can be said).
    """

    code = "receipt"

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(f"receipt: {message}")
        self.fault = fault


class RegistryError(ChanceryError):
    """The signers registry cannot be used. Whoever supplied the file is at fault."""

    code = "registry"
