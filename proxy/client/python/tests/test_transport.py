"""What is tried again, when, and what a caller is told. No connection is made here; integration.py makes them."""

from __future__ import annotations

import dataclasses
import unittest

from chancery_client import (
    ConfigurationError,
    InterruptedCallError,
    InvalidRequestError,
    Options,
    Problem,
    RefusedError,
    UnavailableError,
    random_idempotency_key,
)
from chancery_client.client import _encoded
from chancery_client.options import service_address
from chancery_client.transport import Call, Failure, Transport, pause_s, read_problem

CALL = Call("POST", "/v1/sign", b"{}", "k")
LOST = Failure("lost", "reset")
PASSING = ["overloaded", "draining", "rate-limited", "body-timeout", "release-pending", "request-in-flight"]
FINAL = ["halted", "backend-unavailable", "signing-failed", "internal", "idempotency-conflict", "kid-not-granted"]


def refusal(code: str, retry_after_s: float = 0.0) -> Failure:
    return Failure("refused", problem=Problem(503, code, "t", None, None), retry_after_s=retry_after_s)


class Retries(unittest.TestCase):
    def test_only_what_cannot_happen_twice_is_tried_again(self) -> None:
        once = dataclasses.replace(CALL, once=True)
        self.assertEqual(pause_s(LOST, CALL, 1, False, 1), 0.05)
        self.assertEqual(pause_s(Failure("unreachable"), CALL, 1, False, 1), 0.05)
        self.assertIsNone(pause_s(LOST, once, 1, False, 1), "it may have arrived")
        self.assertEqual(pause_s(Failure("unreachable"), once, 1, False, 1), 0.05, "it did not arrive")
        for kind in ("tls", "late", "unreadable"):
            self.assertIsNone(pause_s(Failure(kind), CALL, 1, False, 1), kind)
        for code in PASSING:
            self.assertEqual(pause_s(refusal(code), CALL, 1, False, 1), 0.05, code)
        for code in (*FINAL, "unexpected-reply"):
            self.assertIsNone(pause_s(refusal(code), CALL, 1, False, 1), code)

    def test_pauses_grow_are_bounded_and_jittered_and_wait_as_asked(self) -> None:
        pauses = [pause_s(LOST, CALL, attempt, True, 1) for attempt in (1, 2, 3, 6, 7, 60)]
        self.assertEqual(pauses, [0.05, 0.1, 0.2, 1.6, 2.0, 2.0])
        self.assertEqual(pause_s(LOST, CALL, 2, True, 0), 0.05)
        self.assertEqual(pause_s(refusal("rate-limited", 3), CALL, 1, False, 1), 3)
        self.assertEqual(pause_s(refusal("rate-limited", 0.001), CALL, 1, False, 1), 0.05)
        idle = dataclasses.replace(LOST, reused=True)
        self.assertEqual(pause_s(idle, CALL, 1, False, 1), 0, "an idle connection was closed")
        self.assertEqual(pause_s(idle, CALL, 2, True, 1), 0.1, "and another one: that is trouble")


class Refusals(unittest.TestCase):
    def test_a_problem_is_read_and_what_is_none_keeps_its_status(self) -> None:
        body = '{"title":"No","status":403,"detail":"why","code":"kid-not-granted","requestId":"r1","new":1}'
        error = RefusedError(read_problem(body, 403, None))
        self.assertEqual((error.code, error.status, error.request_id), ("kid-not-granted", 403, "r1"))
        self.assertEqual((str(error), error.retryable), ("403 kid-not-granted: why (request r1)", False))
        for body in ("<html>", "[]", "{}", "", "[" * 100_000):
            other = read_problem(body, 502, "r2")
            self.assertEqual((other.status, other.code, other.request_id), (502, "unexpected-reply", "r2"))
        self.assertTrue(RefusedError(read_problem('{"code":"draining","status":503}', 503, None)).retryable)
        self.assertTrue(InterruptedCallError.retryable and UnavailableError.retryable)

    def test_options_that_cannot_work_are_refused_before_anything_is_sent(self) -> None:
        addresses = {"https://a": ("a", 8443), "https://[::1]:443/": ("::1", 443), "https://b:1": ("b", 1)}
        for url, address in addresses.items():
            self.assertEqual(service_address(url), address)
        bad = [
            "http://sign.example",
            "https://",
            "sign.example:8443",
            "https://a/b",
            "https://a/?q=1",
            "https://u:p@a/",
        ]
        for url in [*bad, "", "https://a:99999", "https://[::1"]:
            with self.assertRaisesRegex(ConfigurationError, "service address", msg=url):
                Transport(Options(url, "/nonexistent"))
        with self.assertRaisesRegex(ConfigurationError, "^/nonexistent/ca.crt: "):
            Transport(Options("https://a", "/nonexistent/ca.crt"))
        with self.assertRaisesRegex(ConfigurationError, "^/dev/null: "):
            Transport(Options("https://a", "/dev/null"))
        with self.assertRaisesRegex(ConfigurationError, "go together"):
            Transport(Options("https://a", "/dev/null", key_file="/dev/null"))

    def test_what_json_cannot_say_is_refused_before_anything_is_sent(self) -> None:
        for value in (float("nan"), b"bytes", {1, 2}, "\ud800"):
            with self.assertRaises(InvalidRequestError):
                _encoded({"payload": value})

    def test_idempotency_keys_do_not_repeat(self) -> None:
        keys = {random_idempotency_key() for _ in range(100)}
        self.assertEqual(len(keys), 100)
        self.assertTrue(all(len(key) == 36 and key.startswith("key-") for key in keys))


if __name__ == "__main__":
    unittest.main()
