"""URLs that lead somewhere else than they seem to, and honest ones; and what names lead to in the tests."""

from __future__ import annotations

from typing import Final

PUBLIC: Final = "93.184.216.34"
#: Name -> what it leads to.
NAMES: Final = {
    "public.test": [PUBLIC],
    "six.test": ["2606:2800:220:1:248:1893:25c8:1946"],
    "both.test": [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946"],
    "xn--bcher-kva.test": [PUBLIC],
    "loopback.test": ["127.0.0.1"],
    "127.0.0.1.nip.test": ["127.0.0.1"],
    "ten.test": ["10.1.2.3"],
    "metadata.test": ["169.254.169.254"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::a9fe:a9fe"],
    "mixed.test": [PUBLIC, "10.0.0.1"],
    "zero.test": ["0.0.0.0"],
    "ula.test": ["fd12:3456::1"],
    "localtest": ["127.0.0.1"],
}
HONEST: Final = [
    "http://public.test/", "https://public.test/a/b?c=d", "http://PUBLIC.test:80/", "https://public.test:443/", "http://public.test./",
    "http://six.test/", "http://both.test/", f"http://{PUBLIC}/", "http://[2606:2800:220:1:248:1893:25c8:1946]/", "https://bücher.test/",
    "http://public.test/?next=http://127.0.0.1/", "http://public.test/@127.0.0.1", "http://public.test/#@127.0.0.1/",
    "http://[64:ff9b::808:808]/",
]  # fmt: skip
HOSTILE: Final = [
    # this machine, written in many ways
    "http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://127.255.255.254/", "http://2130706433/",
    "http://0x7f000001/", "http://0x7f.0x0.0x0.0x1/", "http://017700000001/", "http://0177.0.0.1/", "http://0/",
    "http://0.0.0.0/", "http://127.0.0.1./", "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/",
    "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://sub.localhost/", "http://localhost:80/",
    "http://loopback.test/", "http://127.0.0.1.nip.test/", "http://localtest/", "http://①②⑦.⓪.⓪.①/",
    "http://１２７.０.０.１/", "http://127。0。0。1/", "http://%31%32%37.0.0.1/", "http://127.0.0.1%2f.public.test/",
    # IPv4 inside IPv6
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/", "http://[2002:7f00:1::]/", "http://[2001:0:7f00:1::]/",
    "http://[2001:0:0:0:0:0:80ff:fffe]/", "http://[::ffff:0:127.0.0.1]/", "http://[fe80::5efe:7f00:1]/",
    "http://mapped.test/", "http://nat64.test/",
    # private networks
    "http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/", "http://100.64.0.1/",
    "http://[fd12:3456::1]/", "http://[fec0::1]/", "http://ten.test/", "http://mixed.test/", "http://ula.test/",
    "http://zero.test/",
    # credentials of machines
    "http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/",
    "http://2852039166/", "http://metadata.test/", "http://metadata.google.internal/", "http://100.100.100.200/",
    "http://168.63.129.16/", "http://metadata/",
    # other schemes, ports, users and addresses of nobody
    "file:///etc/passwd", "gopher://127.0.0.1:25/", "ftp://public.test/", "http://public.test:22/",
    "http://user:password@public.test/", "http://public.test@127.0.0.1/", "http://224.0.0.1/", "http://255.255.255.255/",
    "http://[ff02::1]/", "http://[fe80::1%25lo]/", "http://127.0.0.1\\@public.test/",
]  # fmt: skip
