"""Which addresses may be asked, and what an item's file is called."""

import ipaddress
import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.catalog.download.addresses import (
    judged,
    parse_address,
    public_only,
    public_or_test_server,
    redacted,
    system_resolver,
)
from lib.catalog.download.failures import FetchError
from lib.catalog.download.file_names import FILE_NAME, MAX_STEM, TEMPORARY_NAME, marked_stem, plain_stem


@pytest.mark.parametrize("text", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::808:808", "2002:808:808::1"])
def test_public_addresses_may_be_asked(text):
    assert public_only(ipaddress.ip_address(text)) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1", "this machine"),
        ("127.8.9.1", "this machine"),
        ("0.0.0.0", "unspecified"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "no public"),
        ("100.100.100.200", "no public"),
        ("169.254.169.254", "link-local"),
        ("168.63.129.16", "no public"),
        ("192.0.0.192", ""),
        ("192.88.99.1", "no public"),
        ("198.18.0.1", "private"),
        ("192.0.2.1", "private"),
        ("224.0.0.1", "multicast"),
        ("240.0.0.1", ""),
        ("255.255.255.255", ""),
        ("::", "unspecified"),
        ("::1", "this machine"),
        ("fe80::1", "link-local"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "private"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "this machine"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::127.0.0.1", ""),
        ("2002:7f00:1::", "this machine"),
        ("2002:a9fe:a9fe::", "link-local"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b:1::10.0.0.1", ""),
        ("2001:0:7f00:1::", "private"),
        ("2001:db8::1", "private"),
        ("100::1", ""),
    ],
)
def test_addresses_inside_somebodys_network_are_refused(text, why):
    found = public_only(ipaddress.ip_address(text))
    assert found is not None and why in found


def test_the_test_switch_lets_one_address_through():
    assert public_or_test_server(ipaddress.ip_address("127.0.0.1")) is None
    for text in ("127.0.0.2", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254"):
        assert public_or_test_server(ipaddress.ip_address(text)) is not None


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "0", "localhost", "[::1]", "[::ffff:7f00:1]"],
)
def test_every_notation_of_loopback_is_seen_through(host):
    url = parse_address(f"http://{host}/x.jpg")
    try:
        found = system_resolver(url.host.strip("[]"), 80)
    except OSError:
        pytest.skip(f"this system does not know {host}")
    with pytest.raises(FetchError, match=r"this machine|unspecified") as caught:
        judged(host, found, public_only)
    assert caught.value.reason == "refused_address"


def test_one_private_address_among_public_ones_is_enough():
    with pytest.raises(FetchError, match=r"shop is 10\.0\.0\.1: a private address"):
        judged("shop", ["93.184.216.34", "10.0.0.1"], public_only)
    with pytest.raises(FetchError, match="no address"):
        judged("shop", [], public_only)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("file:///etc/passwd", "refused_scheme"),
        ("ftp://shop.example/a.jpg", "refused_scheme"),
        ("gopher://127.0.0.1:6379/_x", "refused_scheme"),
        ("data:image/png;base64,xxxx", "refused_scheme"),
        ("javascript:alert(1)", "refused_scheme"),
        ("http://user:password@shop.example/a.jpg", "address_with_password"),
        ("http://user@shop.example/a.jpg", "address_with_password"),
        ("shop.example/a.jpg", "bad_address"),
        ("//shop.example/a.jpg", "bad_address"),
        ("a.jpg", "bad_address"),
        ("n/a", "bad_address"),
        ("http://", "bad_address"),
        ("http:///a.jpg", "bad_address"),
        ("http://shop.example:99999/", "bad_address"),
        ("http://[::1", "bad_address"),
        ("https://" + "x" * 300 + "ö.example/", "bad_address"),
    ],
)
def test_what_is_no_address(address, reason):
    with pytest.raises(FetchError) as caught:
        parse_address(address)
    assert caught.value.reason == reason


def test_addresses_are_escaped_once():
    assert (
        parse_address(" HTTPS://Shop.Example/ä b%20c.jpg?q=1#x ").url == "https://shop.example/%C3%A4%20b%20c.jpg?q=1"
    )
    assert parse_address("http://bücher.example/").host == "xn--bcher-kva.example"


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_no_text_breaks_the_parsing(text):
    with suppress(FetchError):
        assert parse_address(text).scheme in ("http", "https")
    redacted(text)


def test_passwords_are_not_shown():
    for user in ("http://me:secret", "http://me:se@secret", "//secret"):
        shown = redacted(f"{user}@shop.example/a")
        assert "secret" not in shown and shown.endswith("//…@shop.example/a")
    assert redacted("http://shop.example/logo@2x.jpg") == "http://shop.example/logo@2x.jpg"
    assert redacted("http://x/\x1b[2J") == "http://x/\\x1b[2J"
    assert len(redacted("http://x/" + "y" * 500)) == 120


@pytest.mark.parametrize("item_id", ["S00412_view1", "WOMEN_Tops_id_00000001_02_1_front", "001", "NA", "5.0", "a~b"])
def test_ordinary_ids_are_file_names_as_they_are(item_id):
    assert plain_stem(item_id) == item_id


HOSTILE = [
    "../x",
    "/",
    "/etc/passwd",
    "a\0b",
    ".hidden",
    "..",
    "-rf",
    "CON",
    "nul.txt",
    "com1",
    "a b",
    "größe",
    "a:b",
]
HOSTILE += ["?", "x" * 300, "é" * 300, ".gitkeep", "index.jsonl", "%2E", "~root", "\n", "a\\b", "." * 300]
HOSTILE += ["con." + "x" * 300]


@pytest.mark.parametrize("item_id", HOSTILE)
def test_any_id_is_a_safe_file_name(item_id, tmp_path):
    for stem in (plain_stem(item_id), marked_stem(item_id)):
        name = f"{stem}.jpg"
        assert re.fullmatch(FILE_NAME, name) and len(stem) <= MAX_STEM and not TEMPORARY_NAME.match(name)
        (tmp_path / name).write_bytes(b"")
        assert name.partition(".")[0].lower() not in ("con", "nul", "com1")
    assert len(list(tmp_path.iterdir())) == len({plain_stem(item_id), marked_stem(item_id)})


@settings(max_examples=50)
@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=2, unique=True))
def test_two_ids_never_have_one_name(pair):
    names = {plain_stem(pair[0]), plain_stem(pair[1]), marked_stem(pair[0]), marked_stem(pair[1])}
    long = sum(plain_stem(item_id) == marked_stem(item_id) for item_id in pair)
    assert len(names) == 4 - long
    assert marked_stem(pair[0]).lower() != marked_stem(pair[1]).lower()
