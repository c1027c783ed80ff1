"""Sending to an address that a user chose, without letting it reach into the network that Flair stands in.

The name is looked up here, every address it has must be a public one, and the connection goes to that very address:
looking it up a second time could give another. Redirections are not followed, and no proxy is asked.
"""

import http.client
import ipaddress
import json
import re
import socket
import ssl
import time
from urllib.parse import urlsplit

from django.conf import settings

SECONDS = 5  # for the connection
SECONDS_IN_ALL = 10


class ForbiddenAddress(Exception):
    """An address that nobody may have Flair send to."""


def check_url(url: str) -> None:
    """Raises `ForbiddenAddress` for what can be refused without looking a name up."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ForbiddenAddress(f"Expected an address. Received: {url[:100]}.") from error
    if not (parts.hostname or "").isascii():
        raise ForbiddenAddress("Expected a host in ASCII (xn--…). Received: another.")
    schemes = {"http", "https"} if settings.WEBHOOK_PRIVATE_ADDRESSES else {"https"}
    if parts.scheme not in schemes or not parts.hostname or parts.username or parts.password or port == 0:
        raise ForbiddenAddress(f"Expected {' or '.join(sorted(schemes))}://host/path without a password.")
    try:
        address = ipaddress.ip_address(parts.hostname.partition("%")[0])
    except ValueError:
        if parts.hostname == "localhost" or "." not in parts.hostname:
            _forbid_unless_private_is_allowed(parts.hostname)
        return
    if not is_public(address):
        _forbid_unless_private_is_allowed(parts.hostname)


def _forbid_unless_private_is_allowed(host: str) -> None:
    if not settings.WEBHOOK_PRIVATE_ADDRESSES:
        raise ForbiddenAddress(f"Expected a host in the public internet. Received: {host}.")


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Also of what an IPv6 address carries inside: IPv4-mapped, 6to4, NAT64, Teredo."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inside:
            return is_public(inside)
        if address.packed[:12] == bytes(12):  # ::a.b.c.d, long given up
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def resolve(host: str, port: int) -> str:
    """The address to connect to. Raises `ForbiddenAddress` if any address of the name is not public, and `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [row[4][0] for row in found]
    if not settings.WEBHOOK_PRIVATE_ADDRESSES:
        for address in addresses:
            if not is_public(ipaddress.ip_address(address.partition("%")[0])):
                raise ForbiddenAddress(f"Expected a host in the public internet. Received: {host} ({address}).")
    return addresses[0]


class _Connection(http.client.HTTPConnection):
    """To an address that was looked at, under the name that was asked for."""

    def __init__(self, host: str, port: int, address: str, is_secure: bool):
        super().__init__(host, port, timeout=SECONDS)
        self._address, self._is_secure = address, is_secure

    def connect(self):
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer; nothing else of it is read. Raises `ForbiddenAddress`, `OSError`, `HTTPException`."""
    check_url(url)
    parts, started = urlsplit(url), time.monotonic()
    is_secure = parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    connection = _Connection(parts.hostname, port, resolve(parts.hostname, port), is_secure)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {"Host": parts.netloc, "User-Agent": "Flair", **headers})
        return _status_of(connection.sock, started + SECONDS_IN_ALL)
    finally:
        connection.close()


def send(hook, message_id: str, message: dict) -> tuple[int | None, str]:
    """One signed message to a `Webhook` -> (status of the answer, if there was one; what went wrong, or nothing).

    Whatever the other side does, it ends within seconds.
    """
    timestamp, body = int(time.time()), json.dumps(message, ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": hook.signature(message_id, timestamp, body),
    }
    try:
        status = post(hook.url, body, headers)
    except (ForbiddenAddress, OSError, http.client.HTTPException, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"
    return status, "" if 200 <= status < 300 else f"Expected a status 2xx. Received: {status}."


def _status_of(connected: socket.socket, until: float) -> int:
    """From the first line alone: whoever lets the rest drip holds nobody up."""
    line = b""
    while b"\n" not in line and len(line) < 200:
        connected.settimeout(max(0.01, until - time.monotonic()))
        piece = connected.recv(200)
        if not piece:
            break
        line += piece
        if time.monotonic() > until:
            raise TimeoutError("no answer in time")
    if not (status := re.match(rb"HTTP/1\.[01] ([2-5]\d\d)\b", line)):
        raise ConnectionError("no HTTP answer")
    return int(status[1])
