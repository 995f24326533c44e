"""Settings from a file and the environment: precedence, all mistakes in one message, and no secret in any message."""

import datetime as dt
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.providers.registry import PROVIDERS
from service.settings.example import example
from service.settings.load import OTHER_VARIABLES, SettingsError, load
from service.settings.model import SECTIONS, Settings, UpstreamSettings
from service.settings.prices import SHIPPED
from service.settings.values import is_loopback
from tests.support.certificates import Authority

KEY = "a-key-that-is-long-enough"
UPSTREAM_KEY = "upstream-key"
SECRET = "Zk7!q9Wx"
NOWHERE = Path("/nonexistent/dovecote.toml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a directory without a ``dovecote.toml``."""
    monkeypatch.chdir(tmp_path)


def mistakes(environment: dict[str, str], path: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(environment, path)
    return raised.value.mistakes


def file(text: str, name: str = "dovecote.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def test_no_settings_give_the_defaults() -> None:
    settings = load({})
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 8080, "sqlite:///dovecote.db")
    assert (settings.public_url, dict(settings.upstreams), settings.allow_private_webhooks) == (None, {}, False)


def test_environment_overrides_the_file() -> None:
    file(
        f'port = 1\nlog_level = "debug"\n[api_keys]\nalice = "{KEY}"\n[upstreams.elkapi]\nkey = "upstream-key"\nconcurrency = 3\n'
    )
    settings = load({"DOVECOTE_PORT": "2", "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "confirm"})
    elkapi = settings.upstreams["elkapi"]
    assert (settings.port, settings.log_level, list(settings.api_keys)) == (2, "debug", ["alice"])
    assert (elkapi.key.get_secret_value(), elkapi.concurrency, elkapi.callbacks) == (UPSTREAM_KEY, 3, "confirm")


def test_file_is_found_by_argument_or_variable() -> None:
    path = file("port = 7", "other.toml")
    assert load({}).port == 8080
    assert load({"DOVECOTE_CONFIG": str(path)}).port == 7
    assert load({}, path).port == 7
    assert mistakes({}, NOWHERE) == [f"{NOWHERE}: cannot be read (No such file or directory)"]
    assert mistakes({}, Path())[0] == ".: cannot be read (Is a directory)"
    assert "is not TOML" in mistakes({}, file("port = = 7"))[0]
    path.write_bytes(b'host = "\xff"')
    assert "is not TOML" in mistakes({}, path)[0]


def test_variables_of_the_command_are_not_settings() -> None:
    load({"DOVECOTE_URL": "http://x", "DOVECOTE_API_KEY": KEY, "PATH": "/bin", "DOVECOTE_PORT": "1"})


def test_all_mistakes_are_reported_together() -> None:
    path = file(
        'prot = 1\nlog_level = "loud"\n[upstreams.elkapi]\nkey = "upstream-key"\nconcurency = 3\n[upstreams.mine]\nkey = "upstream-key"\n'
    )
    found = mistakes(
        {
            "DOVECOTE_PORT": "many",
            "DOVECOTE_PUBLIC_ULR": "http://x",
            "DOVECOTE_OPERATORS": "nobody",
            "DOVECOTE_DATABASE_URL": "mysql://host/name",
            "DOVECOTE_WEBHOOK_SECRET": "short",
            "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "https://api.elkapi.com/v1",
            "DOVECOTE_UPSTREAMS__ELKAPI__DIALECTS": "runway/agregator",
            "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "maybe",
        },
        path,
    )
    said = {line.partition(":")[0]: line for line in found}
    expected = {
        "DOVECOTE_PUBLIC_ULR": "did you mean DOVECOTE_PUBLIC_URL?",
        "prot": "did you mean port?",
        "port": "valid integer",
        "log_level": "'debug', 'info', 'warning' or 'error'",
        "operators": "1 of 1 is no name in api_keys",
        "database_url": "neither sqlite nor postgresql",
        "webhook_secret": "whsec_",
        "upstreams.mine": "set base_url and dialects",
        "upstreams.elkapi.base_url": "leave out /v1",
        "upstreams.elkapi.dialects": "'runway/agregator' is not a dialect",
        "upstreams.elkapi.callbacks": "'apply', 'confirm' or 'off'",
        "upstreams.elkapi.concurency": "did you mean concurrency?",
    }
    assert {where: hint for where, hint in expected.items() if hint not in said.get(where, "")} == {}
    assert len(found) == len(expected)


def test_misspelt_key_of_an_upstream_is_a_mistake_beside_every_other() -> None:
    file(
        'prot = 1\n[upstreams.elkapi]\nkay = "sk-upstream-key"\nconcurrency = "many"\n[upstreams.kling]\nopen_tasks = 0\n'
    )
    assert [line.partition(": ")[0] for line in mistakes({})] == [
        "upstreams.elkapi.concurrency",
        "upstreams.elkapi.kay",
        "upstreams.kling.open_tasks",
        "prot",
    ]
    assert "upstreams.elkapi.kay: no such setting; did you mean key?" in mistakes({})


def test_upstream_with_settings_and_no_key_is_off() -> None:
    file('[upstreams.elkapi]\nopen_tasks = 3\n[upstreams.kling]\ncallbacks = "off"\n')
    assert dict(load({}).upstreams) == {}


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("DOVECOTE_UPSTREAMS", "write DOVECOTE_UPSTREAMS__<NAME>__<FIELD>"),
        ("DOVECOTE_UPSTREAMS__ELKAPI", "FIELD is one of BASE_URL"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__TOKEN", "FIELD is one of BASE_URL"),
        ("DOVECOTE_PORT__NUMBER", "no such setting; did you mean DOVECOTE_PORT?"),
        ("DOVECOTE_XYZZY", "there are DOVECOTE_DATABASE_URL"),
    ],
)
def test_unknown_variable_is_a_mistake(variable: str, hint: str) -> None:
    [line] = mistakes({variable: "hunter2"})
    assert line.startswith(f"{variable}: ")
    assert hint in line
    assert "hunter2" not in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])  # noqa: S104 - only looked at
def test_public_host_is_accepted_without_a_key(host: str) -> None:
    assert load({"DOVECOTE_HOST": host}).host == host
    assert not is_loopback(host)


def test_operator_without_a_key_is_a_mistake() -> None:
    keys = {"DOVECOTE_API_KEYS": f"alice={KEY}1,bob={KEY}2"}
    assert load({**keys, "DOVECOTE_OPERATORS": " bob , "}).operators == ("bob",)
    file(f'operators = ["alice", "bob"]\n[api_keys]\nalice = "{KEY}1"\nbob = "{KEY}2"\n')
    assert load({}).operators == ("alice", "bob")
    [line] = mistakes({**keys, "DOVECOTE_OPERATORS": "bob,carol,dave"})
    assert line == "operators: 2 of 3 is no name in api_keys: an operator needs a key there"


def test_rate_limit_of_zero_is_a_mistake() -> None:
    assert load({"DOVECOTE_RATE_LIMIT": "600"}).rate_limit == 600
    assert load({}).rate_limit is None
    assert mistakes({"DOVECOTE_RATE_LIMIT": "0"}) == ["rate_limit: Input should be greater than or equal to 1"]


def every_variable() -> list[str]:
    upstream = [f"DOVECOTE_UPSTREAMS__ELKAPI__{name.upper()}" for name in UpstreamSettings.model_fields]
    tables = {"upstreams": upstream, "routes": ["DOVECOTE_ROUTES__RUNWAY"]}
    tables["on_uncertain_by_client"] = ["DOVECOTE_ON_UNCERTAIN_BY_CLIENT__SHOP"]
    for section, model in SECTIONS.items():
        tables[section] = [f"DOVECOTE_{section.upper()}__{name.upper()}" for name in model.model_fields]
    settings = [
        variable for name in Settings.model_fields for variable in tables.get(name, [f"DOVECOTE_{name.upper()}"])
    ]
    return [*settings, *sorted(OTHER_VARIABLES), *(provider.key_variable for provider in PROVIDERS.values())]


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("1h", dt.timedelta(hours=1)),
        ("90d", dt.timedelta(days=90)),
        ("6w", dt.timedelta(days=42)),
        ("1y", dt.timedelta(days=365)),
        ("forever", None),
    ],
)
def test_time_of_retention_is_read_from_file_and_environment(text: str, age: dt.timedelta | None) -> None:
    assert load({"DOVECOTE_RETENTION__TASKS": text}).retention.age("tasks") == age
    assert load({}, file(f'[retention]\ntasks = "{text}"')).retention.age("tasks") == age


@pytest.mark.parametrize("text", ["0d", "90", "d", "-1d", "1.5d", "90 days", "999999d", "never", "90m", "٣d"])
def test_time_of_retention_that_cannot_be_read_is_a_mistake(text: str) -> None:
    [line] = mistakes({"DOVECOTE_RETENTION__TASKS": text})
    assert line.startswith(("retention.tasks: is not a time such as 12h", "retention.tasks: contains a blank"))


def test_unknown_setting_of_a_section_is_named_with_the_nearest() -> None:
    assert mistakes({"DOVECOTE_RETENTION__TASK": "1d"}) == ["retention.task: no such setting; did you mean tasks?"]
    assert mistakes({"DOVECOTE_RETENTION": "1d"}) == ["DOVECOTE_RETENTION: write DOVECOTE_RETENTION__<NAME>"]


@pytest.mark.parametrize("value", ["", " ", "\t\r\n"], ids=["empty", "blank", "line-end"])
def test_empty_variable_counts_as_not_set(value: str) -> None:
    assert load(dict.fromkeys(every_variable(), value)) == load({})
    file('port = 7\npublic_url = ""\ncallback_secret = " "\n')
    settings = load(dict.fromkeys(every_variable(), value))
    assert (settings.port, settings.public_url, settings.callback_secret) == (7, None, None)


def test_empty_key_of_a_client_in_the_file_is_a_mistake() -> None:
    [line] = mistakes({}, file('[api_keys]\nshop = ""\n'))
    assert line.startswith("api_keys: 1 of 1 is shorter than 16")


@pytest.mark.parametrize(
    ("variable", "length"),
    [
        ("DOVECOTE_CALLBACK_SECRET", 15),
        ("DOVECOTE_WEBHOOK_SECRET", 31),
        ("DOVECOTE_API_KEYS", 15),
        ("ELKAPI_KEY", 7),
        ("RUNWAYML_API_SECRET", 7),
        ("DOVECOTE_UPSTREAMS__ELKAPI__KEY", 7),
        ("DOVECOTE_UPSTREAMS__ELKAPI__QUERY_KEY", 7),
        ("DOVECOTE_UPSTREAMS__ELKAPI__CALLBACK_KEY", 7),
        ("DOVECOTE_UPSTREAMS__ELKAPI__ACCOUNT_TOKEN", 7),
    ],
)
def test_short_secret_is_a_mistake(variable: str, length: int) -> None:
    more = {"ELKAPI_KEY": UPSTREAM_KEY, "DOVECOTE_UPSTREAMS__ELKAPI__ACCOUNT_USER": "7"}
    for short in ("x", "x" * length):
        [line] = (
            mistakes({**more, variable: short}) if "ACCOUNT" in variable else mistakes({**more, variable: short})[:1]
        )
        assert short not in line or len(short) == 1


def test_every_secret_has_a_least_length() -> None:
    secrets = [
        (model, name)
        for model in (Settings, UpstreamSettings)
        for name, field in model.model_fields.items()
        if "SecretStr" in str(field.annotation)
    ]
    assert len(secrets) >= 7
    for model, name in secrets:
        value = {"shop": "x"} if name == "api_keys" else "x"
        with pytest.raises(ValidationError) as raised:
            model.model_validate({"key": UPSTREAM_KEY, name: value} if model is UpstreamSettings else {name: value})
        assert any(name in fault["loc"] for fault in raised.value.errors())


KUBERNETES = {
    "DOVECOTE_PORT": "tcp://10.96.0.1:8080",
    "DOVECOTE_SERVICE_HOST": "10.96.0.1",
    "DOVECOTE_SERVICE_PORT": "8080",
    "DOVECOTE_SERVICE_PORT_HTTP": "8080",
    "DOVECOTE_PORT_8080_TCP": "tcp://10.96.0.1:8080",
    "DOVECOTE_PORT_8080_TCP_PROTO": "tcp",
    "DOVECOTE_PORT_8080_TCP_PORT": "8080",
    "DOVECOTE_PORT_8080_TCP_ADDR": "10.96.0.1",
    "DOVECOTE_CALLBACK_PORT": "tcp://10.96.0.2:8081",
    "DOVECOTE_CALLBACK_SERVICE_HOST": "10.96.0.2",
    "DOVECOTE_WEB_CANARY_SERVICE_PORT_HTTPS_ALT": "443",
    "DOVECOTE_WEB_CANARY_PORT": "udp://10.96.0.3:53",
    "DOVECOTE_WEB_CANARY_PORT_53_UDP": "udp://10.96.0.3:53",
    "DOVECOTE_WEB_CANARY_PORT_53_UDP_ADDR": "10.96.0.3",
    "DOVECOTE_ROUTES_SERVICE_HOST": "10.96.0.4",
}


def test_service_links_of_kubernetes_are_left_out() -> None:
    assert load(KUBERNETES) == load({})
    file("port = 7")
    assert load(KUBERNETES).port == 7
    assert mistakes({**KUBERNETES, "DOVECOTE_PUBLIC_ULR": "http://x"})[0].startswith("DOVECOTE_PUBLIC_ULR: ")


def test_command_line_overrides_the_environment() -> None:
    settings = load({"DOVECOTE_PORT": "1", "DOVECOTE_HOST": "127.0.0.2"}, given={"port": 2, "host": None})
    assert (settings.port, settings.host) == (2, "127.0.0.2")
    with pytest.raises(SettingsError):
        load({}, given={"host": "a b"})


def test_name_of_an_upstream_is_plain() -> None:
    [line] = mistakes(
        {},
        file(
            '[upstreams."my gate\\nway"]\nkey = "upstream-key"\nbase_url = "http://127.0.0.1"\n'
            'dialects = ["runway/official"]\n'
        ),
    )
    assert line.startswith("upstreams: 1 has a name with other characters")


CA_FILES = ["DOVECOTE_WEBHOOK_CA_FILE", "DOVECOTE_UPSTREAMS__ELKAPI__CA_FILE"]


def ca_file(folder: Path) -> Path:
    path = folder / "a ca.pem"
    Authority(folder)
    (folder / "ca.pem").rename(path)
    return path


@pytest.mark.parametrize("variable", CA_FILES)
def test_ca_file_is_a_file_with_certificates(variable: str, tmp_path: Path) -> None:
    path = ca_file(tmp_path)
    settings = load({"ELKAPI_KEY": UPSTREAM_KEY, variable: str(path)})
    assert path in {settings.webhook_ca_file, settings.upstreams["elkapi"].ca_file}
    empty = file("", "empty.pem")
    for wrong, hint in ((NOWHERE, "No such file"), (empty, "no certificate in PEM format"), (tmp_path, "")):
        [line] = mistakes({"ELKAPI_KEY": UPSTREAM_KEY, variable: str(wrong)})
        assert "ca_file: " in line
        assert "cannot be used" in line
        assert hint in line


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "3601", "soon"])
def test_shutdown_timeout_is_a_number_of_seconds(value: str) -> None:
    assert load({"DOVECOTE_SHUTDOWN_TIMEOUT": "0"}).shutdown_timeout == 0
    [line] = mistakes({"DOVECOTE_SHUTDOWN_TIMEOUT": value})
    assert line.startswith("shutdown_timeout: ")


# ── the example file ───────────────────────────────────────────────────────────────────────────────────────────────

EXAMPLE = Path(__file__).parents[2] / "dovecote.example.toml"


def test_example_file_is_current() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text == example(), "stale: run .venv/bin/dovecote settings --example > dovecote.example.toml"


def test_example_file_sets_nothing() -> None:
    assert load({}, EXAMPLE) == load({})


def test_example_file_is_valid_with_every_line_set() -> None:
    text = re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE.read_text(encoding="utf-8"))
    document = tomllib.loads(text)
    assert set(document) == set(Settings.model_fields)
    assert set(document["upstreams"]["elkapi"]) == set(UpstreamSettings.model_fields)
    for path in ("/etc/ssl/internal-ca.pem", "/etc/dovecote/c2pa-chain.pem", "/etc/dovecote/c2pa-key.pem"):
        text = text.replace(path, str(ca_file(Path.cwd())))
    text = text.replace("/etc/dovecote/prices.toml", str(SHIPPED))
    load({"ELKAPI_KEY": UPSTREAM_KEY, "RUNWAYML_API_SECRET": UPSTREAM_KEY}, file(text))


def test_every_setting_has_a_description() -> None:
    for model in (Settings, UpstreamSettings, *SECTIONS.values()):
        assert [name for name in model.model_fields if not model.descriptions().get(name)] == [], model


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_host_is_recognised(host: str) -> None:
    assert load({"DOVECOTE_HOST": host}).host == host
    assert is_loopback(host)


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (KEY, {"default": KEY}),
        (f"alice={KEY}1, bob={KEY}2,", {"alice": f"{KEY}1", "bob": f"{KEY}2"}),
        ("c2VjcmV0c2VjcmV0c2VjcmV0cw==", {"default": "c2VjcmV0c2VjcmV0c2VjcmV0cw=="}),
        ("alice=c2VjcmV0c2VjcmV0c2VjcmV0cw==", {"alice": "c2VjcmV0c2VjcmV0c2VjcmV0cw=="}),
    ],
)
def test_api_keys_are_read_with_their_clients(value: str, keys: dict[str, str]) -> None:
    found = load({"DOVECOTE_API_KEYS": value}).api_keys
    assert {name: key.get_secret_value() for name, key in found.items()} == keys


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (f"alice={KEY},bob={KEY}", "two clients have the same key"),
        ("alice=short", "1 of 1 is shorter than 16"),
        (f"alice={KEY}1,alice={KEY}2", "two keys are for the same client"),
        (f"{KEY}1,{KEY}2", "two keys are for the same client"),
    ],
)
def test_unusable_api_keys_are_mistakes(value: str, hint: str) -> None:
    [line] = mistakes({"DOVECOTE_API_KEYS": value})
    assert hint in line


def test_known_upstream_is_switched_on_by_its_key() -> None:
    settings = load({"COMETAPI_KEY": UPSTREAM_KEY, "RUNWAYML_API_SECRET": UPSTREAM_KEY, "ELKAPI_KEY": "  "})
    assert list(settings.upstreams) == ["cometapi", "runwayml"]
    assert settings.upstreams["runwayml"].dialects == ("runway/official",)
    assert settings.upstreams["cometapi"].base_url == "https://api.cometapi.com"
    file('[upstreams.elkapi]\nbase_url = "http://127.0.0.1:1/"\n')
    assert load({}).upstreams == {}  # configured, and off until its key is there
    elkapi = load({"ELKAPI_KEY": UPSTREAM_KEY}).upstreams["elkapi"]
    assert (elkapi.base_url, elkapi.key.get_secret_value()) == ("http://127.0.0.1:1", UPSTREAM_KEY)


def test_known_upstreams_come_before_others() -> None:
    file('[upstreams.mine]\nkey = "upstream-key"\nbase_url = "http://127.0.0.1:1"\ndialects = ["runway/official"]\n')
    assert list(load({"RUNWAYML_API_SECRET": UPSTREAM_KEY, "ELKAPI_KEY": UPSTREAM_KEY}).upstreams) == [
        "elkapi",
        "runwayml",
        "mine",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.elkapi.com/v1",
        "https://api.elkapi.com/v1/",
        "http://x/proxy/v1",
        "https://api.elkapi.com/V1",
        "https://api.elkapi.com/v1/chat/completions",
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/mine",
        "https://aiplatform.googleapis.com/v1/projects/mine/locations/global/publishers/google",
    ],
)
def test_base_url_with_v1_is_a_mistake(url: str) -> None:
    [line] = mistakes({"ELKAPI_KEY": UPSTREAM_KEY, "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": url})
    assert "leave out /v1" in line.lower()


@pytest.mark.parametrize(
    "url",
    [
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/my-project/locations/europe-west4",
        "https://aiplatform.googleapis.com/v1/projects/123456/locations/global",
        "http://127.0.0.1:1/proxy/v1/projects/suno/locations/v1",
    ],
)
def test_base_url_may_end_with_the_project_and_region_of_vertex_ai(url: str) -> None:
    named = {"KEY": UPSTREAM_KEY, "BASE_URL": f"{url}/", "DIALECTS": "veo/vertex"}
    settings = load({f"DOVECOTE_UPSTREAMS__VERTEX__{name}": value for name, value in named.items()})
    assert settings.upstreams["vertex"].base_url == url


@pytest.mark.parametrize(
    "text",
    ["upstreams = 1", "[upstreams]\nelkapi = 1", "upstreams = []", "api_keys = 1", "[upstreams.elkapi]\nkey = 1"],
)
def test_file_of_another_shape_is_a_mistake(text: str) -> None:
    found = mistakes({"ELKAPI_KEY": UPSTREAM_KEY, "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "off"}, file(text))
    assert found[0].startswith(("upstreams", "api_keys"))


# ── balances and the account ───────────────────────────────────────────────────────────────────────────────────────


def test_query_url_is_known_only_beside_the_known_base_url() -> None:
    upstreams = load(
        {"ELKAPI_KEY": UPSTREAM_KEY, "COMETAPI_KEY": UPSTREAM_KEY, "RUNWAYML_API_SECRET": UPSTREAM_KEY}
    ).upstreams
    assert {name: each.query_url for name, each in upstreams.items()} == {
        "elkapi": "https://query.elkapi.com",
        "cometapi": "https://query.cometapi.com",
        "runwayml": "",
    }
    elsewhere = {"ELKAPI_KEY": UPSTREAM_KEY, "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "http://127.0.0.1:8090"}
    assert load(elsewhere).upstreams["elkapi"].query_url == "", "a key must not go from a sandbox to the real host"
    slash = {"ELKAPI_KEY": UPSTREAM_KEY, "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "https://api.elkapi.com/"}
    assert load(slash).upstreams["elkapi"].query_url == "https://query.elkapi.com"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"QUERY_KEY": SECRET, "BASE_URL": "http://gateway.example"}, "query_key: set query_url too"),
        ({"QUERY_KEY": f"{SECRET} …"}, "contains a blank"),
        ({"QUERY_URL": f"https://query.example/?key={SECRET}"}, "a query or a fragment; remove it"),
        ({"ACCOUNT_TOKEN": SECRET}, "account_token and account_user belong together"),
        ({"ACCOUNT_USER": "7"}, "account_token and account_user belong together"),
        ({"ACCOUNT_TOKEN": SECRET, "ACCOUNT_USER": "me"}, "number of your account"),
    ],
)
def test_inconsistent_upstream_settings_are_mistakes(more: dict[str, str], words: str) -> None:
    given = {f"DOVECOTE_UPSTREAMS__ELKAPI__{name}": value for name, value in more.items()}
    said = " ".join(mistakes({"ELKAPI_KEY": UPSTREAM_KEY, **given}))
    assert words in said
    assert SECRET not in said


def test_account_user_may_be_a_number() -> None:
    file('[upstreams.elkapi]\nkey = "upstream-key"\naccount_token = "upstream-key"\naccount_user = 1207\n')
    assert load({}).upstreams["elkapi"].account_user == "1207"


def test_upstream_keys_are_not_printed() -> None:
    given = {"QUERY_KEY": SECRET, "ACCOUNT_TOKEN": SECRET, "ACCOUNT_USER": "7"}
    settings = load(
        {"ELKAPI_KEY": UPSTREAM_KEY, **{f"DOVECOTE_UPSTREAMS__ELKAPI__{name}": value for name, value in given.items()}}
    )
    for text in (repr(settings), settings.model_dump_json()):
        assert SECRET not in text


# ── routes and policies ────────────────────────────────────────────────────────────────────────────────────────────


def test_environment_overrides_routes_and_policies_of_the_file() -> None:
    file(
        'on_uncertain = "fail"\n[routes]\nrunway = ["elkapi", "runwayml"]\nsuno = ["elkapi"]\n'
        '[on_uncertain_by_client]\nada = "hold"\n'
    )
    settings = load(
        {"DOVECOTE_ROUTES__RUNWAY": "runwayml, elkapi", "DOVECOTE_ON_UNCERTAIN_BY_CLIENT__BEN": "resubmit_once"}
    )
    assert dict(settings.routes) == {"runway": ("runwayml", "elkapi"), "suno": ("elkapi",)}
    assert [settings.policy_of(client) for client in ("ada", "ben", "zoe")] == ["hold", "resubmit_once", "fail"]
    assert load({}, file("", "empty.toml")).policy_of("anybody") == "hold"


def test_each_mistake_in_routes_has_its_own_line() -> None:
    file(
        'on_uncertain = "resubmit"\n[routes]\nrunwy = ["elkapi"]\nrunway = ["elkapy", "elkapi", "elkapi", "zzzzz"]\nsuno = []\n'
        '[on_uncertain_by_client]\nada = "maybe"\n'
    )
    policies = mistakes({})
    assert [line.partition(":")[0] for line in policies] == ["on_uncertain", "on_uncertain_by_client.ada"]
    assert all("'hold', 'fail' or 'resubmit_once'" in line for line in policies)
    assert mistakes({"DOVECOTE_ON_UNCERTAIN": "fail", "DOVECOTE_ON_UNCERTAIN_BY_CLIENT__ADA": "hold"}) == [
        "routes.runwy: there is no such family; did you mean 'runway'?",
        "routes.runway: no upstream 'elkapy' is configured; did you mean 'elkapi'?",
        f"routes.runway: no upstream 'zzzzz' is configured; there are {', '.join(sorted(PROVIDERS))}",
        "routes.runway: an upstream is named twice",
        "routes.suno: names no upstream; name at least one, or leave it out",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DOVECOTE_ROUTES", "elkapi", "write DOVECOTE_ROUTES__<NAME>"),
        ("DOVECOTE_ROUTES__RUNWAY__FIRST", "elkapi", "write DOVECOTE_ROUTES__<NAME>"),
        ("DOVECOTE_ON_UNCERTAIN_BY_CLIENT", "hold", "write DOVECOTE_ON_UNCERTAIN_BY_CLIENT__<NAME>"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS", "0", "upstreams.elkapi.open_tasks"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__SUBMITS_PER_SECOND", "0", "upstreams.elkapi.submits_per_second"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__POLLS_PER_SECOND", "-1", "upstreams.elkapi.polls_per_second"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__WHEN_FULL", "wait or next", "upstreams.elkapi.when_full"),
    ],
)
def test_mistake_in_routes_and_limits_names_its_place(variable: str, value: str, says: str) -> None:
    [found] = mistakes({"ELKAPI_KEY": UPSTREAM_KEY, variable: value})
    assert says in found


def test_route_may_name_a_known_upstream_without_a_key() -> None:
    assert load({"DOVECOTE_ROUTES__RUNWAY": "elkapi"}).routes == {"runway": ("elkapi",)}


KEY_SET = '{"keys": [\n  {"kty": "OKP", "x": "yQlX_d8vEzVO2pK1lH48LPKd1apY53PQbyQ1-dtgJF0"}\n]}'
COMPACT_KEY_SET = '{"keys":[{"kty":"OKP","x":"yQlX_d8vEzVO2pK1lH48LPKd1apY53PQbyQ1-dtgJF0"}]}'


def test_public_keys_are_taken_as_a_provider_shows_them() -> None:
    of_file = load({"FAL_KEY": UPSTREAM_KEY}, file(f"[upstreams.fal]\ncallback_key = '''{KEY_SET}'''"))
    variable = {"DOVECOTE_UPSTREAMS__FAL__CALLBACK_KEY": KEY_SET.replace("\n", " ")}
    of_environment = load({"FAL_KEY": UPSTREAM_KEY, **variable})
    for settings in (of_file, of_environment):
        key = settings.upstreams["fal"].callback_key
        assert key is not None
        assert key.get_secret_value() == COMPACT_KEY_SET


def test_url_of_public_keys_is_known_only_beside_the_known_base_url() -> None:
    keys = {"FAL_KEY": UPSTREAM_KEY, "IDEOGRAM_API_KEY": UPSTREAM_KEY, "RUNWAYML_API_SECRET": UPSTREAM_KEY}
    assert {name: each.callback_keys_url for name, each in load(keys).upstreams.items()} == {
        "fal": "https://rest.fal.ai/.well-known/jwks.json",
        "ideogram": "https://api.ideogram.ai/v1/.well-known/jwks.json",
        "runwayml": "",
    }
    elsewhere = {"FAL_KEY": UPSTREAM_KEY, "DOVECOTE_UPSTREAMS__FAL__BASE_URL": "http://127.0.0.1:8090"}
    assert load(elsewhere).upstreams["fal"].callback_keys_url == ""
