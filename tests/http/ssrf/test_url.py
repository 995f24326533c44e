"""URLs from outside: how they are parsed, and which rules they must satisfy."""

import httpx
import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from service.http.ssrf.policy import Rules
from service.http.ssrf.url import Destination, Unreadable, read_url
from service.settings.load import SettingsError, load
from service.settings.model import Settings
from service.settings.results import ResultsSettings
from tests.support.disguises import LEADS_TO, ODD_HOSTS, ODD_URLS, PRIVATE_HOSTS

READINGS = {
    "https://example.com": "https://example.com/",
    "https://example.com/": "https://example.com/",
    "http://example.com/": "http://example.com/",
    "HTTPS://EXAMPLE.Com:443/Done?x=1&y=%20": "https://example.com/Done?x=1&y=%20",
    "https://example.com.:8443/a": "https://example.com:8443/a",
    "https://example.com?x=/@:": "https://example.com/?x=/@:",
    "https://example.com//a/../b@c:1": "https://example.com//a/../b@c:1",
    "https://my_app.example-2.com/": "https://my_app.example-2.com/",
    "https://bücher.example/": "https://xn--bcher-kva.example/",
    "https://BÜCHER.example/": "https://xn--bcher-kva.example/",
    "https://xn--bcher-kva.example/": "https://xn--bcher-kva.example/",
    "https://xn--strae-oqa.example/": "https://xn--strae-oqa.example/",
    "https://bu\u0308cher.example/": "https://xn--bcher-kva.example/",
    "https://☃.example/": "https://xn--n3h.example/",
    "https://xn--n3h.example/": "https://xn--n3h.example/",
    "http://example.com:443/": "http://example.com:443/",
    "https://日本語.jp/道": "https://xn--wgv71a119e.jp/道",
    "https://1.1.1.1/": "https://1.1.1.1/",
    "https://1.1.1.1./": "https://1.1.1.1/",
    "https://[2606:4700:0:0::1111]:8443/": "https://[2606:4700::1111]:8443/",
    "https://[2606:4700::ABCD]/": "https://[2606:4700::abcd]/",
    "https://0x7f.example/": "https://0x7f.example/",
    "https://1.2.3.4.example/": "https://1.2.3.4.example/",
}


@pytest.mark.parametrize("url", READINGS)
def test_url_is_read_into_its_normal_form(url: str) -> None:
    normal = str(read_url(url))
    assert normal == READINGS[url]
    assert str(read_url(normal)) == normal


@pytest.mark.parametrize(
    "url", [*ODD_URLS, *(f"http://{host}/" for host in ODD_HOSTS), "https://a.example/" + "a" * 8192, "http://a\x00/"]
)
def test_ambiguous_url_is_refused(url: str) -> None:
    try:
        destination = read_url(url.format(port=8080))
    except Unreadable:
        return
    assert destination.host == "127.0.0.1"  # nothing odd about it, but for where it leads
    assert Rules(http=True).objections(destination)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("https://a.example/#part", "fragment"),
        ("https://a.example/#", "fragment"),
        ("https://me@a.example/", "user or password"),
        ("https://a.example\\b/", "%5C"),
        ("https://a.example/a b", "percent-encode"),
        ("https://a.example/\n", "percent-encode"),
        ("ftp://a.example/", "http(s) URL"),
        ("https://a.example:0/", "port"),
        ("https://127.1/", "four numbers"),
        ("https://a%2eexample/", "percent signs in its host"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://[1.1.1.1]/", "brackets"),
        ("https://straße.example/", "xn--"),
        ("https://①.example/", "xn--"),
        ("https://bücherß.example/", "xn--"),
        ("https://ｂücher.example/", "xn--"),
        ("https://bücher。example/", "xn--"),
        ("https://a.example:65536/", "port"),
        ("https://\u212a.example/", "xn--"),
        ("https://a.example/" + "a" * 8192, "8192"),
    ],
)
def test_error_names_what_is_wrong_with_a_url(url: str, hint: str) -> None:
    with pytest.raises(Unreadable) as raised:
        read_url(url)
    assert hint in str(raised.value)


LABELS = st.from_regex(r"[A-Za-z0-9_üßжあ-]{1,8}", fullmatch=True)
HOSTS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
TARGETS = st.one_of(st.just(""), st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: f"/{text}"))


@given(st.sampled_from(["http", "https", "HTTPS"]), HOSTS, st.sampled_from(["", ":443", ":8080", ":1"]), TARGETS)
@example("https", "xn--bcher-kva.example", "", "/")
@example("https", "a_b.example", "", "/a//b?c[]=%zz")
@example("https", "☃.example", "", "/")
@example("https", "xn--99999.example", ":8443", "/")
def test_libraries_connect_to_the_host_that_was_read(scheme: str, host: str, port: str, target: str) -> None:
    try:
        destination = read_url(f"{scheme}://{host}{port}{target}")
    except Unreadable:
        return
    sent = httpx.URL(str(destination))
    connected = yarl.URL(str(sent))
    assert connected.raw_host == destination.host
    assert (connected.scheme, connected.port) == (destination.scheme, destination.port)
    assert (sent.userinfo, sent.fragment, connected.user, connected.fragment) == (b"", "", None, "")


def what_is_said(url: str, rules: Rules) -> list[str]:
    return [each.reason for each in rules.objections(read_url(url))]


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_private_host_is_refused_before_it_is_resolved(host: str) -> None:
    [objection] = Rules().objections(read_url(f"https://{host}/"))
    assert (
        "is not a public address" in objection.reason
        or "is this machine" in objection.reason
        or ("is a name in a private network" in objection.reason)
    )


@pytest.mark.parametrize("host", LEADS_TO)
def test_public_name_is_accepted_before_it_is_resolved(host: str) -> None:
    assert what_is_said(f"https://{host}/", Rules()) == []


def allowing(**environment: str) -> Rules:
    return load({f"DOVECOTE_{name.upper()}": value for name, value in environment.items()}, None).webhook_rules


NETWORK = {"webhook_allow": "10.1.0.0/16, fd00::/8, 127.0.0.1"}
ALLOWED = [
    ({}, "https://a.example/", ""),
    ({}, "https://a.example:8443/", ""),
    ({}, "https://a.example:444/", "port 444 is not allowed for messages (allowed: 443, 8443)"),
    ({}, "http://a.example/", "https is wanted; port 80 is not allowed"),
    (
        {},
        "http://127.0.0.1:9000/",
        "https is wanted; port 9000 is not allowed for messages (allowed: 443, 8443); 127.0.0.1",
    ),
    ({"allow_http_webhooks": "true"}, "http://a.example/", ""),
    ({"allow_http_webhooks": "true"}, "http://a.example:8080/", ""),
    ({"allow_http_webhooks": "true"}, "https://a.example/", ""),
    ({"allow_http_webhooks": "true"}, "http://a.example:9000/", "(allowed: 80, 443, 8080, 8443)"),
    ({"allow_http_webhooks": "true"}, "http://127.0.0.1/", "not a public address"),
    ({"webhook_ports": "9000, 443"}, "https://a.example:9000/", ""),
    ({"webhook_ports": "9000, 443"}, "https://a.example/", ""),
    ({"webhook_ports": "9000, 443"}, "https://a.example:8443/", "(allowed: 443, 9000)"),
    ({"webhook_ports": "9000"}, "http://a.example:9000/", "https is wanted"),
    (NETWORK, "https://10.1.2.3/", ""),
    (NETWORK, "https://[::ffff:10.1.2.3]/", ""),
    (NETWORK, "https://[fd12::1]/", ""),
    (NETWORK, "https://127.0.0.1/", ""),
    (NETWORK, "https://hooks.internal/", ""),  # the address that it resolves to decides
    (NETWORK, "https://10.2.0.1/", "not a public address"),
    (NETWORK, "https://127.0.0.2/", "not a public address"),
    (NETWORK, "https://[fd00:ec2::254]/", "credentials"),
    (NETWORK, "http://10.1.2.3/", "https is wanted"),
    (NETWORK, "https://10.1.2.3:9000/", "port 9000"),
    ({"webhook_allow": "0.0.0.0/0,::/0"}, "https://169.254.169.254/", "credentials"),
    ({"webhook_allow": "Hooks.Internal."}, "https://hooks.internal/", ""),
    ({"webhook_allow": "bücher.internal"}, "https://xn--bcher-kva.internal/", ""),
    ({"webhook_allow": "hooks.internal"}, "https://a.hooks.internal/", "a name in a private network"),
    ({"webhook_allow": "hooks.internal"}, "https://localhost/", "this machine"),
    ({"webhook_allow": "localhost"}, "https://localhost/", ""),
    ({"allow_private_webhooks": "true"}, "http://127.0.0.1:9000/", ""),
    ({"allow_private_webhooks": "true"}, "http://[::1]:9000/", ""),
    ({"allow_private_webhooks": "true"}, "http://localhost:9000/", ""),
    ({"allow_private_webhooks": "true"}, "http://db/", ""),
    ({"allow_private_webhooks": "true"}, "http://a.example:1/", ""),
    ({"allow_private_webhooks": "true", "webhook_ports": "80"}, "http://a.example:1/", "port 1 is not allowed"),
    ({"allow_private_webhooks": "true"}, "http://169.254.169.254/", "credentials"),
    ({"allow_private_webhooks": "true"}, "http://[::ffff:169.254.169.254]/", "credentials"),
    ({"allow_private_webhooks": "true"}, "http://168.63.129.16/", "credentials"),
]


@pytest.mark.parametrize(("environment", "url", "said"), ALLOWED)
def test_rules_follow_the_settings(environment: dict[str, str], url: str, said: str) -> None:
    found = "; ".join(what_is_said(url, allowing(**environment)))
    assert (said in found) if said else (found == "")


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (80, []),
        (443, []),
        (1023, ["port 1023 is not allowed (allowed: 80, 443, and those from 1024 on)"]),
        (22, ["port 22 is not allowed (allowed: 80, 443, and those from 1024 on)"]),
        (1024, []),
        (65_535, []),
    ],
)
def test_results_are_fetched_from_web_ports_and_unprivileged_ports(port: int, said: list[str]) -> None:
    assert what_is_said(f"http://files.example:{port}/", ResultsSettings().rules) == said


def test_objection_names_existing_settings() -> None:
    for url in ("http://127.0.0.1:9/", "http://localhost:9/", "http://db:9/"):
        objections = Rules().objections(read_url(url))
        assert len(objections) == 3
        for each in objections:
            assert each.settings
            assert set(each.settings) <= set(Settings.model_fields)
    [hopeless] = Rules().objections(read_url("https://169.254.169.254/"))
    assert hopeless.settings == ()


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("10.1.2.3/16", "host bits set"),
        ("fd00::1/8", "host bits set"),
        ("10.0.0.0/33", "neither a network"),
        ("127.1", "neither a network"),
        ("010.0.0.1", "neither a network"),
        ("hooks.internal:8080", "neither a network"),
        ("https://hooks.internal", "neither a network"),
        ("hooks.internal/path", "neither a network"),
        ("*.internal", "neither a network"),
        ("[::1]", "neither a network"),
        ("fe80::1%eth0", "zone"),
        ("169.254.169.254", "never allowed"),
        ("fd00:ec2::254/128", "never allowed"),
        ("::ffff:10.0.0.1", "write the IPv4 address"),
        ("64:ff9b::10.0.0.1", "write the IPv4 address"),
    ],
)
def test_allow_entry_without_effect_is_a_settings_error(value: str, hint: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load({"DOVECOTE_WEBHOOK_ALLOW": f"10.0.0.0/8,{value},hooks.internal,{value}"}, None)
    assert [line.partition(":")[0] for line in raised.value.mistakes] == ["webhook_allow.1", "webhook_allow.3"]
    for line in raised.value.mistakes:
        assert hint in line
        assert value not in line.partition(":")[2].replace("10.1.2.3/16", "")


@pytest.mark.parametrize("ports", ["0", "65536", "http", "-1", "443-445", "4.5"])
def test_invalid_port_is_a_settings_error(ports: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load({"DOVECOTE_WEBHOOK_PORTS": f"443,{ports}"}, None)
    assert [line.partition(":")[0] for line in raised.value.mistakes] == ["webhook_ports.1"]


def test_empty_variable_keeps_the_default() -> None:
    assert allowing(webhook_ports="", webhook_allow="") == Rules()


def test_destination_is_a_value() -> None:
    assert read_url("https://A.example") == Destination("https", "a.example", 443, "/", None)
