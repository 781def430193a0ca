"""Client of Chancery: signs, appends events, and verifies receipts without trusting the service."""

from .client import ChanceryClient, Proven
from .errors import (
    ChanceryError,
    ConfigurationError,
    DeadlineError,
    InterruptedCallError,
    InvalidRequestError,
    PendingError,
    Problem,
    ReceiptError,
    RefusedError,
    RegistryError,
    ReplyError,
    TlsError,
    UnavailableError,
)
from .options import Options
from .receipt import ANYTHING, Proof, verify_receipt
from .registry import Signer, SignersRegistry
from .replies import Answer, EventReply, MacReply, Pending, SignReply, StreamPage, VerifyReply
from .requests import EventRequest, MacRequest, SignRequest
from .transport import random_idempotency_key

__all__ = [
    "ANYTHING",
    "Answer",
    "ChanceryClient",
    "ChanceryError",
    "ConfigurationError",
    "DeadlineError",
    "EventReply",
    "EventRequest",
    "InterruptedCallError",
    "InvalidRequestError",
    "MacReply",
    "MacRequest",
    "Options",
    "Pending",
    "PendingError",
    "Problem",
    "Proof",
    "Proven",
    "ReceiptError",
    "RefusedError",
    "RegistryError",
    "ReplyError",
    "SignReply",
    "SignRequest",
    "Signer",
    "SignersRegistry",
    "StreamPage",
    "TlsError",
    "UnavailableError",
    "VerifyReply",
    "random_idempotency_key",
    "verify_receipt",
]
