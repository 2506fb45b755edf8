"""Which addresses of the web may be fetched: https, a host that is allowed, and nothing inside a network of ours.

Source: OWASP, Server-Side Request Forgery Prevention; the IANA registries of special-purpose addresses by way of
Python's `ipaddress`.
"""

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

import idna

from mcp_server.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError, shown
from mcp_server.settings import WebSettings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

HTTPS_PORT: Final = 443
_MAX_URL_LENGTH: Final = 4000
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\"<>^`{|}\u2028\u2029\u3000]")
_PLAIN_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*")  # how the last part of a name never looks, and an odd IPv4 does
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An https address whose host is allowed.

    Attributes:
        host: lower case, ASCII; IPv6 without its brackets.
        target: path and query, percent-encoded.
        may_be_private: the host was allowed to lie in a private network.
    """

    host: str
    port: int
    target: str
    may_be_private: bool

    @property
    def path(self) -> str:
        """The path, as the address spells it."""
        return self.target.partition("?")[0]

    @property
    def netloc(self) -> str:
        """Host and port as a URL and the Host header have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address."""
        return f"https://{self.netloc}{self.target}"

    @property
    def public_url(self) -> str:
        """The address without the values of its query, which often are keys and signatures."""
        query = self.target.partition("?")[2]
        names = [quote(name) for name, _ in parse_qsl(query, keep_blank_values=True)]
        return f"https://{self.netloc}{self.path}" + ("?" + "&".join(f"{name}=…" for name in names) if query else "")


class AllowedHosts:
    """Judges addresses by the settings. Immutable."""

    def __init__(self, settings: WebSettings) -> None:
        """Read the lists.

        Raises:
            InvalidArgumentError: an entry is neither a host nor host:port.
        """
        self._public = frozenset(_entry(text, "ALLOWED_HOSTS") for text in settings.allowed_hosts)
        self._private = frozenset(_entry(text, "PRIVATE_HOSTS") for text in settings.private_hosts)

    def names(self) -> list[str]:
        """Return the hosts, with their ports where they are not 443."""
        return [WebAddress(host, port, "", False).netloc for host, port in sorted(self._public | self._private)]

    def judge(self, url: str) -> WebAddress:
        """Return the address that `url` spells, once its scheme, spelling, host and port are allowed.

        Raises:
            PermissionDeniedError: they are not; nothing was looked up or connected to.
        """
        parts = _split(url)
        place = _host_and_port(parts.netloc, url)
        if place not in self._public | self._private:
            known = ", ".join(self.names()[:10]) or "none"
            raise PermissionDeniedError(
                f"The host of {_without_query(url)} is not allowed; nothing was fetched.",
                hint=f"Allowed: {known}. NBA_MCP_WEB__ALLOWED_HOSTS names the hosts that may be fetched from.",
            )
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
        return WebAddress(*place, path + (f"?{query}" if parts.query else ""), place in self._private)


def checked_addresses(address: WebAddress, resolve: Resolve) -> list[str]:
    """Look the host up once and return its IP addresses, all of them such that they may be connected to.

    Raises:
        UnavailableError: the name cannot be looked up.
        PermissionDeniedError: one lies in a private, loopback, link-local or otherwise special network.
    """
    found = list(dict.fromkeys(resolve(address.host, address.port)))
    if not found:
        raise UnavailableError(f"The host {shown(address.host)} has no address.", hint="Check its name; try again.")
    for text in found:
        if not may_connect(ipaddress.ip_address(text), address.may_be_private):
            raise PermissionDeniedError(
                f"The host {shown(address.host)} has an address inside a private or special network; "
                "nothing was fetched.",
                hint="NBA_MCP_WEB__PRIVATE_HOSTS names hosts for which that is right.",
            )
    return found


def may_connect(address: Address, private: bool = False) -> bool:
    """Return True for an address on the public internet; with `private` also for one of this site or machine."""
    inner = _inside(address)
    if inner != address:
        return may_connect(inner, private) and (private or isinstance(inner, ipaddress.IPv4Address))
    if address.is_loopback:
        return private
    never = address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    return not never and (address.is_global or private)


def _inside(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for (mapped, 6to4, Teredo, NAT64), else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address


def look_up(host: str, port: int, timeout_s: float) -> list[str]:
    """Return the IP addresses of `host`, as the system finds them.

    Raises:
        UnavailableError: there are none, or none came in time. The system's look-up itself has no time limit.
    """
    outcome: list[list[str]] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # no such name; an odd one
            return
        outcome.append([str(entry[4][0]).partition("%")[0] for entry in found])

    asking = threading.Thread(target=ask, name="look-up", daemon=True)
    asking.start()
    asking.join(timeout_s)
    if not outcome:
        raise UnavailableError(
            f"The host {shown(host)} cannot be looked up.", hint="Check its name and the network, then try again."
        )
    return outcome[0]


@dataclass(frozen=True, slots=True)
class _Parts:
    netloc: str
    path: str
    query: str


def _split(url: str) -> _Parts:
    if len(url) > _MAX_URL_LENGTH or _FORBIDDEN.search(url):
        raise _refused(url, "it is too long, or has characters that no address has")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused(url, "it is no address") from None
    if parts.scheme != "https":
        raise _refused(url, "only https:// is fetched")
    if "@" in parts.netloc:
        raise _refused("https://…", "it has a user name or password in it")
    return _Parts(parts.netloc, parts.path, parts.query)


def _host_and_port(netloc: str, url: str) -> tuple[str, int]:
    """Return the host in its one spelling, and the port."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::(\d{1,5}))?", netloc)
    if match is None:
        raise _refused(url, "its host or port is misspelt")
    port = int(match[2]) if match[2] is not None else HTTPS_PORT
    host = match[1].strip("[]").lower()
    try:
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        pass  # a name
    try:
        name = (host if host.isascii() else idna.encode(host, uts46=True).decode()).removesuffix(".")
    except idna.IDNAError:
        raise _refused(url, "its host is no name") from None
    if not _PLAIN_HOST.fullmatch(name) or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise _refused(url, "its host is neither a name nor a plainly written IP address")
    return name, port


def _entry(text: str, setting: str) -> tuple[str, int]:
    try:
        return _host_and_port(text, text)
    except PermissionDeniedError:
        raise InvalidArgumentError(
            f"NBA_MCP_WEB__{setting} has {shown(text)}, which is no host.",
            hint="Write hosts as data.example.org, or data.example.org:8443 where the port is not 443.",
        ) from None


def _refused(url: str, reason: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"{_without_query(url)} is not fetched: {reason}.",
        hint="Give a plain https:// address of an allowed host; list_sources shows them.",
    )


def _without_query(url: str) -> str:
    """Return the address for a message: neither its query nor a user's password."""
    plain = url.partition("?")[0].partition("#")[0]
    scheme, _, rest = plain.partition("://")
    return shown(f"{scheme}://{rest.rpartition('@')[2]}" if rest else plain)
