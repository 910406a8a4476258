"""Addresses for the tests, independent of the module's tables: the ends and the well-known ones of each range."""

from ipaddress import IPv4Address, IPv6Address

DENIED = [
    *("0.0.0.0", "0.0.0.1", "0.255.255.255"),
    *("169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255"),
    "100.100.100.200",
    "168.63.129.16",
    *("192.0.0.0", "192.0.0.192", "192.0.0.255"),
    *("192.88.99.0", "192.88.99.255"),
    *("224.0.0.0", "224.0.0.251", "239.255.255.255"),
    *("240.0.0.0", "240.0.0.1", "255.255.255.254", "255.255.255.255"),
    *("::", "::2", "::10.0.0.1", "::169.254.169.254", "::ffff:ffff"),
    *("::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:255.255.255.255"),
    *("::ffff:0:0:0", "::ffff:0:169.254.169.254", "::ffff:0:ffff:ffff"),
    *("64:ff9b::", "64:ff9b::a9fe:a9fe", "64:ff9b::ffff:ffff"),
    *("64:ff9b:1::", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    *("2001::", "2001:0:a9fe:a9fe::1", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("2002::", "2002:a9fe:a9fe::1", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("5f00::", "5f00:ffff::1"),
    *("fd00:ec2::", "fd00:ec2::23", "fd00:ec2::254", "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:100::100:200", "fd00:a9fe:a9fe::1"),
    *("fe80::", "fe80::1", "fe80::1%eth0", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd12:3456::1%eth0"),
    *("fd12:3456::5efe:10.0.0.1", "2606:4700::200:5efe:169.254.169.254"),
    *("ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]
"""Always denied, whatever the rules."""


def embeddings(inner: IPv4Address) -> dict[str, IPv6Address]:
    """The ways to hide an IPv4 address inside of an IPv6 one."""
    bits = int(inner)
    high, low = bits >> 16, bits & 0xFFFF
    return {
        "compatible": IPv6Address(bits),
        "mapped": IPv6Address(0xFFFF << 32 | bits),
        "translated": IPv6Address(0xFFFF << 48 | bits),
        "NAT64": IPv6Address(f"64:ff9b::{inner}"),
        "NAT64, local use, /96": IPv6Address(f"64:ff9b:1::{inner}"),
        "NAT64, local use, RFC 6052 /48": IPv6Address(f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::"),
        "NAT64, local use, RFC 6052 /64": IPv6Address(
            f"64:ff9b:1:0:{high >> 8:x}:{(high & 0xFF) << 8 | low >> 8:x}:{(low & 0xFF) << 8:x}:0"
        ),
        "6to4": IPv6Address(f"2002:{high:x}:{low:x}::1"),
        "Teredo server": IPv6Address(f"2001:0:{high:x}:{low:x}::"),
        "Teredo client": IPv6Address(f"2001::{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}"),
        "ISATAP, link-local": IPv6Address(f"fe80::5efe:{inner}"),
        "ISATAP, private": IPv6Address(f"fd12:3456::5efe:{inner}"),
        "ISATAP, global": IPv6Address(f"2606:4700:1:2:200:5efe:{high:x}:{low:x}"),
    }
