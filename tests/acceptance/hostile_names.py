"""Names that resolve to what is denied, hostile subject ids, redirects; with the URIs, all of the hostile shots."""

from collections.abc import Iterator
from itertools import chain, product, zip_longest
from urllib.parse import quote

from tests.acceptance import hostile_uris as uris
from tests.acceptance.hostile_uris import (
    CANARIES_4,
    CANARIES_6,
    DELIVERED,
    DENIED,
    GOOD,
    GOOD_NAME,
    HOSTS,
    LITERAL,
    NO_NAME,
    Shot,
)
from tests.support.namespace import ADDRESS

BAD_SUBJECT = frozenset({"subject_invalid"})
REDIRECTED = frozenset({"status_final"})

NAMES: dict[str, tuple[str, ...]] = {
    **{f"a{number}.evil.test": (address,) for number, address in enumerate(CANARIES_4)},
    **{f"aaaa{number}.evil.test": (address,) for number, address in enumerate(CANARIES_6) if address[:4] != "fe80"},
    **{f"first{number}.evil.test": (address, ADDRESS) for number, address in enumerate(CANARIES_4)},
    **{f"last{number}.evil.test": (ADDRESS, address) for number, address in enumerate((*CANARIES_4, *CANARIES_6[:4]))},
    "many.evil.test": (*(f"10.1.2.{number}" for number in range(4, 24)), "169.254.169.254"),
    "both.evil.test": ("169.254.169.254", "fd00:ec2::254"),
    "mapped.evil.test": ("::ffff:169.254.169.254",),
    "compatible.evil.test": ("::169.254.169.254",),
    "nat64.evil.test": ("64:ff9b::a9fe:a9fe",),
    "local-nat64.evil.test": ("64:ff9b:1::a9fe:a9fe",),
    "6to4.evil.test": ("2002:a9fe:a9fe::1",),
    "teredo.evil.test": ("2001:0:a9fe:a9fe::1",),
    "link-local.evil.test": ("fe80::1",),
    "broadcast.evil.test": ("255.255.255.255",),
    "multicast.evil.test": ("224.0.0.1", "ff02::1"),
    "_under_score.evil.test": ("169.254.169.254",),
    "xn--mnchen-3ya.evil.test": ("169.254.169.254",),
    "169.254.169.254.evil.test": ("169.254.169.254",),
    "x.good.test.evil.test": ("127.0.0.1",),
}
"""What the name servers know, beside GOOD_NAME and ALIASES."""

ALIASES = {f"alias{number}.evil.test": name for number, name in enumerate(list(NAMES)[:20])}
WILD = "wild.evil.test"
"""Every name below it is the metadata address."""

_PLACES = ("/s/{}", "/q?id={}", "/a/{}/b?x={}")


def shots() -> list[Shot]:
    """All hostile ones, each once, in an order that mixes the kinds."""
    kinds = (
        *(uris.odd_ipv4(), uris.odd_ipv6(), uris.odd_digits(), uris.userinfo(), uris.whitespace(), uris.schemes()),
        *(uris.ports(), uris.placeholders(), uris.percent_encoded(), uris.dot_segments()),
        *(names(), subjects(), redirects()),
    )
    mixed = chain.from_iterable(zip_longest(*kinds))
    return list(dict.fromkeys(shot for shot in mixed if shot is not None))


def controls(count: int) -> list[Shot]:
    """Legitimate ones: they must arrive, with exactly this request line."""
    targets = (
        "/ScanEnded/{}",
        "/a//b/{}?x=1&y=%2F",
        "/?id={}",
        "/p;v=1/{}/@:!$&'()*+,=~",
        "/q/{}?next=http://127.0.0.1/",
    )
    hosts = (GOOD, f"{GOOD}:80", f"http://{GOOD_NAME}", f"HTTP://{GOOD_NAME.upper()}")
    made = []
    for number in range(count):
        subject, text = f"control-{number}", targets[number % len(targets)]
        uri = hosts[number % len(hosts)] + text.format("{SubjectId}")
        made.append(Shot(uri, DELIVERED, subject, text.format(subject)))
    return made


def names() -> Iterator[Shot]:
    """Alone or among others, directly or by another name."""
    for name in (*NAMES, *ALIASES, *(f"x{number}.{WILD}" for number in range(40))):
        for tail in ("/", ":8080/{SubjectId}", ":443/"):
            yield Shot(f"http://{name}{tail}", DENIED)
        yield Shot(f"https://{name.upper()}/x", DENIED)
        yield Shot(f"http://{name}./", LITERAL)
        yield Shot(f"http://{ADDRESS}.{name}/", NO_NAME)
    for name, tail in product(("localhost", "LOCALHOST", "LocalHost"), ("/", ":8080/", ":443/x")):
        yield Shot(f"http://{name}{tail}", DENIED)


def subjects() -> Iterator[Shot]:
    """Subject ids that want to be more than one: each arrives encoded, or is refused."""
    for canary in HOSTS:
        for text in (f"@{canary}/", f"//{canary}/", f"http://{canary}/", f":80@{canary}", f"?@{canary}", f"#@{canary}"):
            yield from _subject(text)
    plain = (
        "a/b a/../b ../x ..%2f %2e%2e %252e a%00b %0d%0aHost:x {SubjectId} {{7*7}} ${x} {x.__class__} + &a=b ;a = ' \""
    )
    signs = "<script> | ^ ` ~ ... .a a. * ! $ ( ) , : @ [ ] %"
    wide = (
        "\xe4" * 100,
        "\u65e5\u672c\u8a9e",
        "\uff11\uff12\uff17.0.0.1",
        "\u2025",
        "\u200b",
        "\U0001f600" * 10,
        "\u202e",
    )
    for text in (
        *plain.split(),
        *signs.split(),
        *wide,
        "x" * 256,
        "\xe9" * 256,
        "/" * 256,
        "\ufeff",
        "a b",
        " ",
        "\u2028",
    ):
        yield from _subject(text)
    bad = (
        "",
        ".",
        "..",
        "\r\n",
        "a\r\nHost: x",
        "\0",
        "a\tb",
        "\x7f",
        "\x85",
        "a\\b",
        "..\\..",
        "\\",
        "x\x1by",
        "\n",
        "\x9f",
    )
    for text, place in product(bad, _PLACES):
        yield Shot(GOOD + place.replace("{}", "{SubjectId}"), BAD_SUBJECT, text)


def _subject(text: str) -> Iterator[Shot]:
    # Some servers decode twice: a value that hides dots or a backslash may be refused for that.
    dubious = BAD_SUBJECT if ".." in text or "%" in text else frozenset()
    for place in _PLACES:
        target = place.replace("{}", quote(text, safe=""))
        yield Shot(GOOD + place.replace("{}", "{SubjectId}"), DELIVERED | dubious, text, target)


def redirects() -> Iterator[Shot]:
    """The target answers `/redirect/CODE/NUMBER` with the location of that number."""
    for code, number in product((301, 302, 303, 307, 308, 300, 304, 305), range(len(LOCATIONS))):
        target = f"/redirect/{code}/{number}"
        yield Shot(GOOD + target, REDIRECTED, target=target)


def _locations() -> Iterator[str]:
    for canary in HOSTS:
        yield from (f"http://{canary}/latest", f"//{canary}/", f"http://{ADDRESS}@{canary}/", f"http:///{canary}/")
    yield from (
        "/latest",
        "",
        "http://",
        "http://[::1",
        "\\\\127.0.0.1\\",
        "http://127.0.0.1\\@good.test/",
        "ftp://127.0.0.1/",
    )
    yield from ("http://xn--/", "http://good.test:99999/", "http://\xe4.test/", "x" * 2000, "http://" + "a" * 300 + "/")


LOCATIONS = tuple(_locations())
