"""Which addresses of the web may be fetched."""

import ipaddress

import pytest

from mcp_server.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from mcp_server.settings import WebSettings
from mcp_server.stores.sources.web_addresses import AllowedHosts, checked_addresses, look_up, may_connect

ALLOWED = AllowedHosts(
    WebSettings(
        allowed_hosts=("data.example.org", "odd.example.org:8443", "bücher.example", "93.184.215.14"),
        private_hosts=("intern.example.org",),
    )
)


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://data.example.org/games.csv", "data.example.org", 443, "/games.csv"),
        ("https://DATA.example.org./a b".replace(" ", "%20"), "data.example.org", 443, "/a%20b"),
        ("https://data.example.org:443?x=1&y=%2F#part", "data.example.org", 443, "/?x=1&y=%2F"),
        ("https://odd.example.org:8443/ä.csv", "odd.example.org", 8443, "/%C3%A4.csv"),
        ("https://BÜCHER.example/x", "xn--bcher-kva.example", 443, "/x"),
        ("HTTPS://93.184.215.14/x", "93.184.215.14", 443, "/x"),
    ],
)
def test_an_allowed_address_is_taken_apart_once(url: str, host: str, port: int, target: str) -> None:
    address = ALLOWED.judge(url)
    assert (address.host, address.port, address.target) == (host, port, target)
    assert ALLOWED.judge(address.url) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://data.example.org/x",  # not https
        "ftp://data.example.org/x",
        "https:data.example.org/x",
        "https:///x",
        "https://",
        "https://user@data.example.org/x",
        "https://user:hunter2@data.example.org/x",
        "https://data.example.org@evil.example/x",
        "https://evil.example\\@data.example.org/x",
        "https://evil.example#@data.example.org/x",
        "https://data.example.org:8443/x",  # not that port
        "https://odd.example.org/x",
        "https://data.example.org:0443443/x",
        "https://data.example.org:/x",
        "https://data.example.org.evil.example/x",
        "https://xdata.example.org/x",
        "https://data。example。org.evil.example/x",
        "https://127.0.0.1/x",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://127。0。0。1/",
        "https://①②⑦.0.0.1/",
        "https://localhost/",
        "https://data.example.org/a b",
        "https://data.example.org/\r\nHost: evil",
        "https://data.example.org\t/x",
        " https://data.example.org/x",
        "https://[::1/",
        "https://data.example.org/" + "x" * 5000,
    ],
)
def test_every_other_spelling_is_denied(url: str) -> None:
    with pytest.raises(PermissionDeniedError) as refusal:
        ALLOWED.judge(url)
    assert "hunter2" not in refusal.value.message
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    "entry", ["https://data.example.org", "a b", "data.example.org/x", "*.example.org", "2130706433", ""]
)
def test_a_setting_that_is_no_host_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(InvalidArgumentError, match="NBA_MCP_WEB__ALLOWED_HOSTS"):
        AllowedHosts(WebSettings(allowed_hosts=(entry,)))


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_may_be_connected_to(address: str) -> None:
    assert may_connect(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "192.0.2.1",
        "::1", "fc00::1", "fd12::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
        "2002:7f00:1::", "2002:a00:1::", "2001:db8::1", "2001:0:0:0:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_of_this_site_or_machine_may_not(address: str) -> None:
    assert not may_connect(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fe80::1", "224.0.0.1",
     "ff02::1", "0.0.0.0", "::", "255.255.255.255", "240.0.0.1"],
)  # fmt: skip
def test_special_addresses_may_not_even_where_private_ones_may(address: str) -> None:
    assert not may_connect(ipaddress.ip_address(address))
    assert not may_connect(ipaddress.ip_address(address), private=True)


def test_a_host_allowed_to_be_private_may_lie_here() -> None:
    intern = ALLOWED.judge("https://intern.example.org/x")
    assert checked_addresses(intern, lambda host, port: ["10.0.0.7", "127.0.0.1"]) == ["10.0.0.7", "127.0.0.1"]


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"], ["::ffff:192.168.0.1"]])
def test_a_host_with_any_address_inside_is_denied(found: list[str]) -> None:
    with pytest.raises(PermissionDeniedError, match="private or special"):
        checked_addresses(ALLOWED.judge("https://data.example.org/x"), lambda host, port: found)


def test_a_name_that_cannot_be_looked_up_is_unavailable_in_time() -> None:
    with pytest.raises(UnavailableError, match="cannot be looked up"):
        look_up("no-such-host.invalid", 443, 2.0)


def test_what_is_shown_of_an_address_has_no_values_of_its_query() -> None:
    address = ALLOWED.judge("https://data.example.org/x.csv?season=2015&sig=hunter2&flag")
    assert address.public_url == "https://data.example.org/x.csv?season=…&sig=…&flag=…"
