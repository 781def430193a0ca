"""Where the service is and who we are. Files are read once, when the client is made."""

from __future__ import annotations

import ssl
import urllib.parse
from dataclasses import dataclass
from typing import NoReturn, Optional, Tuple

from .errors import ConfigurationError

_DEFAULT_PORT = 8443


@dataclass(frozen=True)
class Options:
    """How to reach the service."""

    #: ``https://HOST[:PORT]``; the default port is 8443.
    url: str
    #: PEM file of the authorities that may vouch for the service. No others are trusted.
    ca_file: str
    #: PEM file of our certificate chain. Without it and its key only health checks are open.
    certificate_file: Optional[str] = None
    #: PEM file of its private key, unencrypted.
    key_file: Optional[str] = None
    #: Time for a whole call with its attempts. Above the service's own deadline for slow devices.
    call_timeout_s: float = 30.0
    #: Time for TCP, and for each step of TLS.
    connect_timeout_s: float = 5.0
    #: Attempts of one call, the first included.
    attempts_max: int = 5


def service_address(url: str) -> Tuple[str, int]:
    """Host and port of ``https://HOST[:PORT]``. Raises `ConfigurationError`."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urllib.parse.urlsplit("")
    bare = parts.scheme == "https" and parts.path in ("", "/") and "@" not in parts.netloc
    if not host or not bare or parts.query or parts.fragment:
        raise ConfigurationError(f"{url!r} is not a service address; write https://HOST:PORT")
    return host, _DEFAULT_PORT if port is None else port


def tls_context(options: Options) -> ssl.SSLContext:
    """TLS 1.3 only, our certificate, the given authorities only. Raises `ConfigurationError`."""
    if (options.certificate_file is None) != (options.key_file is None):
        raise ConfigurationError("certificate_file and key_file go together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(options.ca_file)
    except OSError as error:
        raise ConfigurationError(f"{options.ca_file}: {error.strerror or error}") from error
    try:
        if options.certificate_file is not None:
            context.load_cert_chain(options.certificate_file, options.key_file, password=_no_password)
    except OSError as error:
        raise ConfigurationError(f"certificate and key cannot be used: {error.strerror or error}") from error
    return context


def _no_password() -> NoReturn:
    raise ConfigurationError("the private key is encrypted")
