"""Spellings of addresses that no message may reach. ``{port}`` is the canary's port."""

PRIVATE_HOSTS = """
    127.0.0.1 127.0.0.1. 127.8.8.8 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255
    169.254.0.1 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    169.254.169.254 169.254.170.2 168.63.129.16 100.100.100.200 192.0.0.192
    [::1] [::] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::127.0.0.1] [::7f00:1]
    [::ffff:127.0.0.1] [::ffff:7f00:1] [::FFFF:0:127.0.0.1] [0:0:0:0:0:ffff:7f00:0001] [::ffff:169.254.169.254]
    [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::7f00:1] [2002:7f00:1::] [2002:a9fe:a9fe::1]
    [2001:0:7f00:1::] [2001:0:0:0:0:0:80ff:fffe] [2001:2::1] [2001:20::1] [2001:db8::1] [3fff::1] [100::1] [5f00::1]
    [4000::1] [2606:4700::5efe:127.0.0.1] [fc00::1] [fd00::1] [fd00:ec2::254] [fe80::1] [febf::1] [fec0::1] [ff02::1]
    [ff0e::1]
    localhost LocalHost localhost. LOCALHOST. a.localhost a.b.localhost. db metadata.google.internal nas.local
    localhost.localdomain router.home.arpa
""".split()  # noqa: SIM905 - a table
"""Plain enough to be read, and refused for where they lead."""

ODD_HOSTS = [
    *"""
    127.1 127.0.1 127.0.0.01 127.000.000.001 0177.0.0.1 0177.0.0.01 017700000001 0x7f000001 0X7F000001 0x7f.1 0x7f.0.0.1
    0x7f.0x0.0x0.0x1 0x7f000001. 2130706433 6425673729 0 00 0x 0.0.0.0.0 1.2.3.4.5 127.0.0.256 256.256.256.256
    127.0.0.1.. 127..0.0.1 .127.0.0.1 999.999.999.999 a.0x7f a.127
    [127.0.0.1] [::1%25lo] [::1%lo] [fe80::1%25eth0] [::1]. [[::1]] [v1.7f000001] [::ffff:127.1] [1::2::3] [] [:] [::1
    %31%32%37.0.0.1 127%2e0%2e0%2e1 127.0.0.1%00 127.0.0.1%2f.example.com loc%61lhost localhost%00.example.com
    ①②⑦.⓪.⓪.① １２７.0.0.1 127。0。0。1 127．0．0．1 127｡0｡0｡1 ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌocalhost localhoſt
    """.split(),  # noqa: SIM905 - a table
    "local\u00adhost",  # a soft hyphen, which IDNA takes away
    "127.0.0.1\u200b",
    "127.0.0.1\u2028",
    "-a.example",
    "a" * 64 + ".example",
    ".".join(["a" * 60] * 5),
    "a..example",
    "exa mple.com",
    "xn--a-ÿ.example",
]
"""Not one form that everybody agrees on: refused before anybody asks where they lead."""

ODD_URLS = [
    "http://public.example@127.0.0.1:{port}/",
    "http://public.example:80@127.0.0.1:{port}/",
    "http://user:password@127.0.0.1:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://:@127.0.0.1:{port}/",
    "http://public.example%40@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@public.example/",
    "http://public.example\\@127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}/",
    "http:/\\127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@public.example/",
    "http://public.example#@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}?@public.example/",
    "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    "://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/ ",
    "http:// 127.0.0.1:{port}/",
    "http://127.0.0.1 :{port}/",
    "ht\ntp://127.0.0.1:{port}/",
    "http://\t127.0.0.1:{port}/",
    "http://127.0.\n0.1:{port}/",
    "http://127.0.0.1\r:{port}/",
    "http://127.0.0.1:{port}\r\nX: y/",
    "\x01http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}:80/",
    "http://127.0.0.1:80:{port}/",
    "http://127.0.0.1:+{port}/",
    "http://127.0.0.1:0{port}/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:65536/",
    "http://127.0.0.1:/",
    "http://127.0.0.1:８０/",
    "HTTP://127.0.0.1:{port}/",
    "http://[::1]:{port}x/",
    "http://[::1]{port}/",
    "http://::1:{port}/",
    "http://[::1]@public.example:{port}/",
    "http://",
    "http:",
    "",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_x",
    "unix:///run/docker.sock",
    "data:text/plain,x",
    "javascript:alert(1)",
    "httpx://127.0.0.1:{port}/",
]

LEADS_TO = {
    "localtest.me": ["127.0.0.1"],
    "v6.localtest.me": ["::1"],
    "both.localtest.me": ["127.0.0.1", "::1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "zero.example": ["0.0.0.0"],  # noqa: S104 - an answer of a name server
    "intranet.example": ["10.1.2.3"],
    "cname.example": ["127.0.0.1"],  # by way of a CNAME: the resolver gives where it ends
    "mixed.example": ["93.184.215.14", "127.0.0.1"],
    "mixed-the-other-way.example": ["127.0.0.1", "93.184.215.14"],
    "mixed-families.example": ["93.184.215.14", "::1"],
    "mixed-of-many.example": [*(f"93.184.215.{number}" for number in range(1, 30)), "192.168.1.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "6to4.example": ["2002:7f00:1::"],
    "zone.example": ["fe80::1%lo"],
    "metadata.example": ["169.254.169.254"],
    "metadata-v6.example": ["fd00:ec2::254"],
    "azure.example": ["168.63.129.16"],
    "bücher.example": ["127.0.0.1"],
    "UPPER.Example.": ["127.0.0.1"],
    "under_score.example": ["127.0.0.1"],
}
"""Names that look like any other, and what a name server says of them."""


def spellings(port: int) -> list[str]:
    """Return all of them as URLs."""
    return [
        *(f"http://{host}:{port}/" for host in (*PRIVATE_HOSTS, *ODD_HOSTS)),
        *(url.format(port=port) for url in ODD_URLS),
    ]
