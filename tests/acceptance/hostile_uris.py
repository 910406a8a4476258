"""Thousands of hostile URIs, each with the answers that would be truthful. Deterministic, no I/O.

All of them aim at addresses that no webhook may reach; the only place where a request of theirs may arrive is ADDRESS.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import product

from tests.support.namespace import ADDRESS

SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
GOOD = f"http://{ADDRESS}"
GOOD_NAME = "good.test"

METADATA_4 = ("169.254.169.254", "100.100.100.200", "192.0.0.192", "169.254.170.2", "168.63.129.16")
CANARIES_4 = (*METADATA_4, "127.0.0.1", "0.0.0.0")
CANARIES_6 = ("fd00:ec2::254", "fd20:ce::254", "::1", "::", "fe80::1", "fe80::a9fe:a9fe")
HOSTS = ("169.254.169.254", "100.100.100.200", "127.0.0.1", "[fd00:ec2::254]", "[::1]", "localhost")
HELD = (*METADATA_4, "fd00:ec2::254", "fd20:ce::254")
"""What loopback holds for the canaries, beside its own."""

INVALID = frozenset({"template_invalid"})
DENIED = frozenset({"denied_always", "denied_loopback"})
LITERAL = INVALID | DENIED
NO_NAME = LITERAL | {"attempts_exhausted"}
"""Of what is no address to anyone: it may be a name that nobody knows."""
DELIVERED = frozenset({"delivered"})


@dataclass(frozen=True, slots=True)
class Shot:
    """`reasons`: the answers that would be truthful. `target`: the request target, if it may be delivered."""

    uri: str
    reasons: frozenset[str]
    subject_id: str = SUBJECT
    target: str | None = None


def odd_ipv4() -> Iterator[Shot]:
    """Each part in octal, decimal or hexadecimal; fewer parts; too large; dots and zeros where none belong."""
    for address in CANARIES_4:
        for parts in _partitions(int(IPv4Address(address))):
            for spelling in product((str, _octal, hex), repeat=len(parts)):
                yield _literal(".".join(spell(part) for spell, part in zip(spelling, parts, strict=True)))
        for host in _misspelled(address):
            yield _literal(host)
        for host in _all_but_numbers(address):
            yield Shot(f"http://{host}/", NO_NAME)


def _partitions(number: int) -> Iterator[tuple[int, ...]]:
    a, b, c, d = number.to_bytes(4, "big")
    yield from ((number,), (a, number & 0xFFFFFF), (a, b, number & 0xFFFF), (a, b, c, d))
    yield from ((number + 2**32,), (a + 256, b + 256, c + 256, d + 256), (a, b, c, d + 256))


def _octal(part: int) -> str:
    return f"0{part:o}"


def _misspelled(address: str) -> Iterator[str]:
    number, parts = int(IPv4Address(address)), address.split(".")
    yield from (f"{address}.", f"{address}..", f".{address}", address.replace(".", "..", 1), f"{address}.0")
    yield from (".".join(part.zfill(width) for part in parts) for width in (2, 3, 4, 10))
    yield from (f"0x{number:08X}", f"0X{number:08X}", f"0x{number:020x}", f"{number:012o}", f"0x{number:x}.")
    yield from (f"-{number}", f"+{number}", f"{number}.", ",".join(parts), f"{parts[0]}.{parts[1]}.{parts[2]}")
    yield from (".".join(f"0x{int(part):02X}" for part in parts), ".".join(f"000000{int(part):o}" for part in parts))
    yield from (address + tail for tail in words("/32 %00 %2e %0a :80:80 ; $ * ! , ~"))
    yield from (f"[{address}]", f"({address})", f'"{address}"', f"<{address}>", "0x" + ".0x".join(parts))


def _all_but_numbers(address: str) -> Iterator[str]:
    number = int(IPv4Address(address))
    yield from (f"0o{number:o}", f"0b{number:b}", f"{number}e0", f"{number:_}", f"{number}L")
    yield from (f"{address}_", address.replace(".", "-"))


def odd_ipv6() -> Iterator[Shot]:
    """IPv4 inside of IPv6 in every known form, in every spelling; the addresses that are denied themselves."""
    for address in CANARIES_4:
        for embedded in _embedding(IPv4Address(address)):
            for spelling in _spellings(embedded):
                yield _literal(f"[{spelling}]")
        for prefix in ("::ffff:", "::", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "fe80::5efe:", "0:0:0:0:0:ffff:"):
            yield _literal(f"[{prefix}{address}]")
            yield _literal(f"[{prefix.upper()}{address}%25lo]")
    for text in CANARIES_6:
        for spelling in _spellings(IPv6Address(text)):
            for zone in ("", "%25lo", "%lo", "%251", "%", "%25", "%25eth0%20"):
                yield _literal(f"[{spelling}{zone}]")
        for form in words(
            "{} [{} {}] [[{}]] [{}]. [{}]a [{},] [v1.{}] [{}/128] [{}]:80:80 [{}]@ %5B{}%5D [{}]] []{} [{}][]"
        ):
            yield _literal(form.format(text))


def _embedding(address: IPv4Address) -> Iterator[IPv6Address]:
    """RFC 4291 (compatible, mapped), 2765 (translated), 6052 and 8215 (NAT64), 3056 (6to4), 4380 (Teredo), 5214."""
    number, octets = int(address), address.packed
    yield from (IPv6Address(number), IPv6Address(0xFFFF << 32 | number), IPv6Address(0xFFFF << 48 | number))
    for prefix in ("64:ff9b::", "64:ff9b:1::", "64:ff9b:1:abcd::", "fe80::5efe:0:0", "fe80::200:5efe:0:0", "5f00::"):
        yield IPv6Address(int(IPv6Address(prefix)) | number)
    inside = octets[:2] + b"\0" + octets[2:]  # RFC 6052 leaves bits 64 to 71 empty
    yield IPv6Address(bytes.fromhex("0064ff9b0001") + inside + bytes(5))
    for host in (0, 1, number):
        yield IPv6Address(0x2002 << 112 | number << 80 | host)
    teredo = 0x20010000 << 96
    yield from (IPv6Address(teredo | number << 64 | 1), IPv6Address(teredo | 0x41360E37 << 64 | number ^ 0xFFFFFFFF))


def _spellings(address: IPv6Address) -> Iterator[str]:
    full = address.exploded
    yield from (str(address), str(address).upper(), full, full.upper())
    yield full[:-9] + str(IPv4Address(int(address) & 0xFFFFFFFF))
    yield ":".join(f"{int(group, 16):x}" for group in full.split(":"))


ZEROS = dict.fromkeys((65296, 120782, 120792, 120802, 120822, 8320), INVALID)
"""The digit zero: full-width, mathematical, subscript; with the answers that are truthful."""
ZEROS |= dict.fromkeys((1632, 1776, 2406, 2534, 3664), NO_NAME)
"""Arabic-Indic, Persian, Devanagari, Bengali, Thai: IDNA2008 allows these in names, where they are no numbers."""
CIRCLED = {ord("0"): "\u24ea", **{ord("0") + value: chr(0x2460 + value - 1) for value in range(1, 10)}}
SUPERSCRIPT = dict(
    zip(map(ord, "0123456789"), "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", strict=True)
)
DOTS = "\u3002\uff0e\uff61\u2024\ufe52\u00b7\u066b"
UNSEEN = "\u200b\u200d\u2060\u00ad\ufeff\u202e\u0301\ufe0f"
FULL_WIDTH = {code: chr(code + 0xFEE0) for code in range(0x21, 0x7F)}


def odd_digits() -> Iterator[Shot]:
    """Digits and dots of other scripts, which some resolvers take for ASCII; characters that are not seen."""
    for address in CANARIES_4:
        for zero, reasons in ZEROS.items():
            digits = {ord("0") + value: chr(zero + value) for value in range(10)}
            for host in (address.translate(digits), address[0].translate(digits) + address[1:]):
                yield Shot(f"http://{host}/", reasons)
            yield Shot(f"http://{address[:-1]}{address[-1].translate(digits)}/latest", reasons)
        for table in (CIRCLED, SUPERSCRIPT, FULL_WIDTH):
            yield Shot(f"http://{address.translate(table)}/", INVALID)
        for dot in DOTS:
            yield Shot(f"http://{address.replace('.', dot)}/", INVALID)
        for unseen in UNSEEN:
            yield Shot(f"http://{address[:3]}{unseen}{address[3:]}/", INVALID)
    circled = "".join(chr(0x24D0 + ord(letter) - ord("a")) for letter in "localhost")
    for name in ("localhost".translate(FULL_WIDTH), circled, "loca\u200blhost", "LOCALHO\u017fT", "\u2112ocalhost"):
        yield Shot(f"http://{name}/", INVALID)
    for text in (
        "http\uff1a//127.0.0.1/",
        "http:\uff0f\uff0f127.0.0.1/",
        f"{GOOD}\uff20127.0.0.1/",
        f"{GOOD}\uff03@127.0.0.1/",
    ):
        yield Shot(text, INVALID)


def userinfo() -> Iterator[Shot]:
    """Two hosts in one URI: which one is meant must never be the one that is forbidden."""
    joints = ["\\", "#", " @", "\t@", "\r\n@", "\0@", "\u2025@", '"@']
    joints += words("@ :80@ :x@ %40 %40@ #@ \\@ ;@ &@ @@ :@ %23@ %2f@ %5c@ %2e@ !@ '@ <>@ [@ ]@ ^@ `@ |@ $@ ,@ =@")
    for canary in HOSTS:
        for joint in joints:
            yield Shot(f"{GOOD}{joint}{canary}/", INVALID)
            yield Shot(f"http://{canary}{joint}{ADDRESS}/", INVALID)
            yield Shot(f"http://{GOOD_NAME}{joint}{canary}/latest/meta-data/", INVALID)
        for target in (f"/@{canary}/", f"//{canary}/", f"/?@{canary}/", f"/?u=http://{canary}/", f"/http://{canary}/"):
            if "[" not in target:
                yield Shot(GOOD + target, DELIVERED, target=target)
        yield Shot(f"{GOOD}?@{canary}/", DELIVERED | INVALID, target=f"/?@{canary}/")
        yield Shot(f"http://user:password@{canary}/", INVALID)
        yield Shot(f"http://{canary}/#@{ADDRESS}/", INVALID)


def whitespace() -> Iterator[Shot]:
    """Blanks and control characters wherever a parser may skip them."""
    places = (
        "_http://{0}/ ht_tp://{0}/ http:_//{0}/ http:/_/{0}/ http://_{0}/ http://{0}_/ http://{0}_:80/ http://{0}:_80/"
    )
    more = "http://{0}/x_ http://10.1.2.3_.{0}/ http://10.1.2.3/_HTTP/1.1_Host:_{0}__ http://10.1.2.3/_@{0} http://_10.1.2.3/"
    for host, blank in product(HOSTS, "\t\r\n\0\v\f \x7f\x85\xa0\u2028\u3000"):
        for place in words(f"{places} {more}"):
            yield Shot(place.replace("_", blank).format(host), INVALID)
        yield Shot(f"http://{host[:2]}{blank}{host[2:]}/", INVALID)


def schemes() -> Iterator[Shot]:
    other = (
        "ftp file gopher dict ldap ws wss unix jar:http view-source:http url:http http+unix h%74tp http%3a http:http"
    )
    other += " javascript netdoc tftp sftp data ht\u0442p 1http - http. +http blob:http feed"
    heads = words(
        "http: http:/ http:/// http://// http// // / http:\\\\ http:/\\ http:\\/ \\\\ http:// :// ://// http:\\"
    )
    for canary in HOSTS:
        yield from (Shot(f"{scheme}://{canary}/", INVALID) for scheme in (*other.split(), "", "http ", " "))
        yield from (Shot(f"{head}{canary}/", INVALID) for head in (*heads, "") if head != "http://")
        yield from (Shot(f"{scheme}://{canary}/", LITERAL) for scheme in ("HTTP", "hTtP", "https", "HTTPS"))
        yield from (
            Shot(f"http://{text}", INVALID) for text in ("", "/", ":80/", "@/", "?", "#", f"?{canary}", f"#{canary}")
        )
        yield from (Shot(f"http://{canary}{tail}", LITERAL) for tail in words("? ?x /? // /; /%00 /%0d%0a # /%"))


def ports() -> Iterator[Shot]:
    wrong = words("0 65536 65616 131152 4294967376 -80 +80 80.0 0x50 8e1 80a a 000080 %38%30 80%20 {x} 80,443 80;80 *")
    odd = ("\u0668\u0660", "\uff18\uff10", "\u00b2")
    hosts = (*CANARIES_4, *(f"[{address}]" for address in CANARIES_6), "localhost")
    yield from (Shot(f"http://{host}:{port}/", INVALID) for host in hosts for port in (*wrong, *odd))
    for host, port in product(hosts, ("80", "443", "8080", "080", "0080", "00080", "1", "65535", "")):
        yield from (Shot(f"{scheme}://{host}:{port}/", LITERAL) for scheme in ("http", "https"))


def placeholders() -> Iterator[Shot]:
    """The subject must not choose where the request goes, and braces are no template language."""
    for canary in HOSTS:
        yield Shot("http://{SubjectId}/", INVALID, canary)
        yield Shot("http://{SubjectId}:80/", INVALID, canary)
        yield Shot("{SubjectId}", INVALID, f"http://{canary}/")
        yield Shot("{SubjectId}://x/", INVALID, f"http://{canary}/")
        yield from (
            Shot(GOOD + tail, INVALID, f"@{canary}") for tail in ("{SubjectId}", "{SubjectId}/", ":{SubjectId}/")
        )
        yield Shot("http://x{SubjectId}@" + canary + "/", INVALID)
        yield Shot(GOOD + "/#{SubjectId}", INVALID, canary)
        yield from (Shot(f"{GOOD}/{{{form}SubjectId}}", INVALID, f"//{canary}/") for form in "+#./;?&=!|@")
    names = "SubjectId* SubjectId:3 SubjectId,Event SubjectId.__class__ SubjectId[0] SubjectId!r subjectid SUBJECTID"
    more = "Subject 7*7 %53ubjectId SubjectId}{ {SubjectId} SubjectId}} x 0 Host Uri __init__"
    yield from (
        Shot(f"{GOOD}/{{{name}}}", INVALID) for name in (*names.split(), *more.split(), "", " SubjectId", "SubjectId ")
    )
    yield from (Shot(f"{GOOD}/{text}", INVALID) for text in words("{ } }{ {SubjectId SubjectId} {{SubjectId}} {}"))
    yield Shot(GOOD + "/%7BSubjectId%7D", DELIVERED, target="/%7BSubjectId%7D")
    yield Shot(GOOD + "/${SubjectId}", DELIVERED, target=f"/${SUBJECT}")


def percent_encoded() -> Iterator[Shot]:
    """Hosts are never decoded."""
    for canary in HOSTS:
        every = "".join(f"%{ord(character):02x}" for character in canary)
        yield from (Shot(f"http://{text}/", INVALID) for text in (every, every.upper(), every.replace("%", "%25")))
        yield Shot(f"http://{canary.replace('.', '%2e').replace(':', '%3a')}%2e/", INVALID)
        yield Shot(f"http://%{ord(canary[0]):02X}{canary[1:]}/", INVALID)
        yield from (
            Shot(f"http://{canary}{tail}/", INVALID) for tail in words("%2f %3f %23 %20 %09 %e3%80%82 % %zz %u3002")
        )


def dot_segments() -> Iterator[Shot]:
    for segment, host in product(words(". .. %2e %2E %2e%2e .%2e %2e. %2E%2E"), ("169.254.169.254", "127.0.0.1")):
        for path in (
            f"/a/{segment}/{host}/",
            f"/{segment}",
            f"/{segment}?x",
            f"/{segment}/{{SubjectId}}",
            f"//{segment}",
        ):
            yield Shot(GOOD + path, INVALID)
    yield from (Shot(f"{GOOD}/a{text}b", INVALID) for text in ("\\", "%5c", "%5C", "/..\\", "/%5c../", "\\..\\"))


def words(text: str) -> list[str]:
    """What is separated by blanks."""
    return text.split()


def _literal(host: str) -> Shot:
    return Shot(f"http://{host}/latest/meta-data/{{SubjectId}}", LITERAL)
