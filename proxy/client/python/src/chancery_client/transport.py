"""One call: its deadline, its attempts, and what a loss may have done.

A call is tried again only where that cannot do a thing twice: when no connection came about, when it was lost (the
request carries the same ``Idempotency-Key``, or only reads; a call marked ``once`` is not sent again), and when the
service refused before doing anything and said that this passes. HTTP/1.1 over TLS 1.3, connections reused.
"""

from __future__ import annotations

import http.client
import random
import secrets
import selectors
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple, Union

from .canonical import parse
from .errors import (
    PASSING,
    ChanceryError,
    DeadlineError,
    InterruptedCallError,
    Problem,
    RefusedError,
    ReplyError,
    TlsError,
    UnavailableError,
)
from .options import Options, service_address, tls_context
from .replies import problem_of

_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 2.0
_REPLY_BYTES_MAX = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024
_IDLE_MAX = 64


@dataclass(frozen=True)
class Call:
    """A request, kept whole so that it can be sent again as it was."""

    method: str
    path: str
    body: Optional[bytes] = None
    idempotency_key: Optional[str] = None
    #: Never sent again once it may have arrived.
    once: bool = False


@dataclass(frozen=True)
class Reply:
    """A reply with a status of success."""

    status: int
    body: str
    request_id: Optional[str]


@dataclass(frozen=True)
class Failure:
    """How one attempt failed.

    ``kind`` is ``unreachable`` (nothing was sent), ``tls``, ``lost`` (after the request may have gone out),
    ``late``, ``refused`` or ``unreadable``.
    """

    kind: str
    cause: str = ""
    #: The connection had been idle.
    reused: bool = False
    problem: Optional[Problem] = None
    retry_after_s: Optional[float] = None


def pause_s(failure: Failure, call: Call, attempt: int, lost_before: bool, share: float) -> Optional[float]:
    """How long to wait before the next attempt; ``None`` if there is to be none. ``share`` is random, 0 to 1."""
    # Beyond this many the pause is at its bound.
    whole: float = min(_BACKOFF_FIRST_S * 2 ** min(attempt - 1, 16), _BACKOFF_MAX_S)
    # Between a half and all of it, so that callers who lost the same service do not come back together.
    jittered = whole / 2 + whole / 2 * share
    if failure.problem is not None:
        return max(failure.retry_after_s or 0.0, jittered) if failure.problem.code in PASSING else None
    if failure.kind == "unreachable":
        return jittered
    if failure.kind != "lost" or call.once:
        return None
    # An idle connection that the service closed meanwhile is no sign of trouble.
    return 0.0 if failure.reused and not lost_before else jittered


class Transport:
    """Sends calls to one service; any number of threads may share one."""

    def __init__(self, options: Options) -> None:
        """Reads the files. Raises `ConfigurationError`."""
        self._options = options
        self._host, self._port = service_address(options.url)
        self._context = tls_context(options)
        self._idle: List[http.client.HTTPSConnection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes idle connections. Calls under way go on."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def call(self, call: Call) -> Reply:
        """Carries the call out, whatever that takes within its deadline."""
        deadline = time.monotonic() + self._options.call_timeout_s
        lost: Optional[str] = None
        attempt = 0
        while True:
            attempt += 1
            outcome = self._attempt(call, deadline)
            if isinstance(outcome, Reply):
                return outcome
            pause = pause_s(outcome, call, attempt, lost is not None, random.random())
            over = attempt >= max(self._options.attempts_max, 1)
            if over or pause is None or time.monotonic() + pause >= deadline:
                error = self._error(outcome, lost)
                error.idempotency_key = call.idempotency_key
                raise error
            if outcome.kind == "lost":
                lost = outcome.cause
            time.sleep(pause)

    def _error(self, failure: Failure, lost: Optional[str]) -> ChanceryError:
        """What the caller is told, given that an earlier attempt may have been lost on its way."""
        if failure.problem is not None:
            return RefusedError(failure.problem, failure.retry_after_s)
        if failure.kind == "tls":
            return TlsError(f"TLS refused: {failure.cause}")
        if failure.kind == "late":
            waited = self._options.call_timeout_s
            return DeadlineError(f"no answer within {waited} s, the request may have been carried out")
        if failure.kind == "unreadable":
            return ReplyError(f"unreadable reply: {failure.cause}")
        if failure.kind == "unreachable" and lost is None:
            return UnavailableError(f"service unavailable: {failure.cause}")
        return InterruptedCallError(f"connection lost, the request may have been carried out: {lost or failure.cause}")

    def _attempt(self, call: Call, deadline: float) -> Union[Reply, Failure]:
        left = deadline - time.monotonic()
        if left <= 0:
            return Failure("late")
        idle = self._take_idle()
        connection = idle or self._connection(min(left, self._options.connect_timeout_s))
        outcome: Union[Reply, Failure]
        try:
            if idle is None:
                connection.connect()
        except OSError as error:
            connection.close()
            late = isinstance(error, socket.timeout) and time.monotonic() >= deadline
            return Failure("late") if late else _failure(error, "unreachable")
        try:
            outcome, reusable = _exchange(connection, call, deadline)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            # What ended this one ended the others that were idle.
            self.close()
            if isinstance(error, socket.timeout):
                return Failure("late")
            return _failure(error, "lost", reused=idle is not None)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if reusable and len(self._idle) < _IDLE_MAX:
                self._idle.append(connection)
                return outcome
        connection.close()
        return outcome

    def _take_idle(self) -> Optional[http.client.HTTPSConnection]:
        """An idle connection that the service has not closed."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            with selectors.DefaultSelector() as selector:
                selector.register(connection.sock, selectors.EVENT_READ)
                # Nobody was asked, so there is nothing to read but an end.
                if not selector.select(0):
                    return connection
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._context)


def _exchange(
    connection: http.client.HTTPSConnection, call: Call, deadline: float
) -> Tuple[Union[Reply, Failure], bool]:
    """Sends the call and reads its reply; also whether the connection can carry another."""
    headers: Dict[str, str] = {"accept": "application/json", "user-agent": "chancery-python/0.1.0"}
    if call.body is not None:
        headers["content-type"] = "application/json"
    if call.idempotency_key is not None:
        headers["idempotency-key"] = call.idempotency_key
    _limit(connection, deadline)
    connection.request(call.method, call.path, body=call.body, headers=headers)
    response = connection.getresponse()
    chunks, size = [], 0
    while True:
        _limit(connection, deadline)
        chunk = response.read1(_READ_BYTES)
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
        if size > _REPLY_BYTES_MAX:
            return Failure("unreadable", f"larger than {_REPLY_BYTES_MAX} bytes"), False
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # The connection takes no other request before its reply is closed, however whole it was read.
    response.close()
    return _outcome(response, b"".join(chunks)), not response.will_close


def _limit(connection: http.client.HTTPSConnection, deadline: float) -> None:
    """Lets the next wait last no longer than what is left of the call."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("deadline")
    # A reply that ends its connection has taken the socket for itself.
    if connection.sock is not None:
        connection.sock.settimeout(left)


def _outcome(response: http.client.HTTPResponse, body: bytes) -> Union[Reply, Failure]:
    request_id = response.getheader("x-request-id")
    if 200 <= response.status < 300:
        try:
            return Reply(response.status, body.decode(), request_id)
        except UnicodeDecodeError:
            return Failure("unreadable", "not UTF-8")
    seconds = response.getheader("retry-after") or ""
    retry_after_s = float(seconds) if seconds.isascii() and seconds.isdigit() else None
    problem = read_problem(body.decode("utf-8", "replace"), response.status, request_id)
    return Failure("refused", problem=problem, retry_after_s=retry_after_s)


def read_problem(body: str, status: int, request_id: Optional[str]) -> Problem:
    """Reads a refusal; a body that is no problem keeps its status under the code ``unexpected-reply``."""
    try:
        value = parse(body)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("code"), str):
        return problem_of(value, status, request_id)
    title = "the service refused without a problem document"
    return Problem(status, "unexpected-reply", title, None, request_id)


def _failure(error: Exception, otherwise: str, reused: bool = False) -> Failure:
    """Certificates that were not accepted, by either side; anything else is the network's."""
    gone = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    if isinstance(error, ssl.SSLError) and not isinstance(error, gone):
        return Failure("tls", str(error))
    return Failure(otherwise, str(error) or type(error).__name__, reused=reused)


def random_idempotency_key() -> str:
    """A fresh ``Idempotency-Key`` of 128 random bits, for one request and all its retries."""
    return f"key-{secrets.token_hex(16)}"
