"""Settings from a file and the environment: which wins, every mistake at once, and no secret in any message."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from service.providers.registry import PROVIDERS
from service.settings.model import Settings, SettingsError, is_loopback, load

KEY = "a-key-that-is-long-enough"
NOWHERE = Path("/nonexistent/dovecote.toml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where no ``dovecote.toml`` of somebody else lies."""
    monkeypatch.chdir(tmp_path)


def mistakes(environment: dict[str, str], path: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(environment, path)
    return raised.value.mistakes


def file(text: str, name: str = "dovecote.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def test_nothing_set_is_enough_to_try_it_here() -> None:
    settings = load({})
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 8080, "sqlite:///dovecote.db")
    assert (settings.public_url, dict(settings.upstreams), settings.allow_private_webhooks) == (None, {}, False)


def test_the_file_is_read_and_the_environment_wins() -> None:
    file(
        f'port = 1\nlog_level = "debug"\n[api_keys]\nalice = "{KEY}"\n[upstreams.elkapi]\nkey = "k"\nconcurrency = 3\n'
    )
    settings = load({"DOVECOTE_PORT": "2", "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "confirm"})
    elkapi = settings.upstreams["elkapi"]
    assert (settings.port, settings.log_level, list(settings.api_keys)) == (2, "debug", ["alice"])
    assert (elkapi.key.get_secret_value(), elkapi.concurrency, elkapi.callbacks) == ("k", 3, "confirm")


def test_the_file_can_be_elsewhere() -> None:
    path = file("port = 7", "other.toml")
    assert load({}).port == 8080
    assert load({"DOVECOTE_CONFIG": str(path)}).port == 7
    assert load({}, path).port == 7
    assert mistakes({}, NOWHERE) == [f"{NOWHERE}: cannot be read (No such file or directory)"]
    assert mistakes({}, Path())[0] == ".: cannot be read (Is a directory)"
    assert "not TOML" in mistakes({}, file("port = = 7"))[0]
    path.write_bytes(b'host = "\xff"')
    assert "not TOML" in mistakes({}, path)[0]


def test_what_belongs_to_the_command_is_no_setting_of_the_server() -> None:
    load({"DOVECOTE_URL": "http://x", "DOVECOTE_API_KEY": KEY, "PATH": "/bin", "DOVECOTE_PORT": "1"})


def test_every_mistake_is_said_at_once() -> None:
    path = file(
        'prot = 1\nlog_level = "loud"\n[upstreams.elkapi]\nkey = "k"\nconcurency = 3\n[upstreams.mine]\nkey = "k"\n'
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
        "upstreams.mine": "say its base_url and dialects",
        "upstreams.elkapi.base_url": "leave out /v1",
        "upstreams.elkapi.dialects": "'runway/agregator' is not a dialect",
        "upstreams.elkapi.callbacks": "'apply', 'confirm' or 'off'",
        "upstreams.elkapi.concurency": "did you mean concurrency?",
    }
    assert {where: hint for where, hint in expected.items() if hint not in said.get(where, "")} == {}
    assert len(found) == len(expected)


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
def test_a_variable_that_means_nothing_is_a_mistake(variable: str, hint: str) -> None:
    [line] = mistakes({variable: "hunter2"})
    assert line.startswith(f"{variable}: ")
    assert hint in line
    assert "hunter2" not in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", ""])  # noqa: S104 - only looked at
def test_whether_a_key_is_needed_is_decided_where_the_database_is_open(host: str) -> None:
    assert load({"DOVECOTE_HOST": host}).host == host
    assert not is_loopback(host)


def test_operators_are_names_of_keys() -> None:
    keys = {"DOVECOTE_API_KEYS": f"alice={KEY}1,bob={KEY}2"}
    assert load({**keys, "DOVECOTE_OPERATORS": " bob , "}).operators == ("bob",)
    file(f'operators = ["alice", "bob"]\n[api_keys]\nalice = "{KEY}1"\nbob = "{KEY}2"\n')
    assert load({}).operators == ("alice", "bob")
    [line] = mistakes({**keys, "DOVECOTE_OPERATORS": "bob,carol,dave"})
    assert line == "operators: 2 of 3 is no name in api_keys: an operator needs a key there"


def test_a_rate_of_nothing_is_a_mistake() -> None:
    assert load({"DOVECOTE_RATE_LIMIT": "600"}).rate_limit == 600
    assert load({}).rate_limit is None
    assert mistakes({"DOVECOTE_RATE_LIMIT": "0"}) == ["rate_limit: Input should be greater than or equal to 1"]


def test_an_empty_variable_is_not_set_where_none_is_the_default() -> None:
    settings = load({"DOVECOTE_PUBLIC_URL": "", "ELKAPI_KEY": "", "DOVECOTE_CONFIG": "", "DOVECOTE_API_KEYS": ""})
    assert (settings.public_url, dict(settings.upstreams), dict(settings.api_keys)) == (None, {}, {})
    assert mistakes({"DOVECOTE_PORT": ""})[0].startswith("port: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
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
def test_keys_are_read_with_their_names(value: str, keys: dict[str, str]) -> None:
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
def test_keys_that_would_not_work_are_mistakes(value: str, hint: str) -> None:
    [line] = mistakes({"DOVECOTE_API_KEYS": value})
    assert hint in line


def test_an_upstream_is_switched_on_by_its_key() -> None:
    settings = load({"COMETAPI_KEY": "c", "RUNWAYML_API_SECRET": "r", "ELKAPI_KEY": "  "})
    assert list(settings.upstreams) == ["cometapi", "runwayml"]
    assert settings.upstreams["runwayml"].dialects == ("runway/official",)
    assert settings.upstreams["cometapi"].base_url == "https://api.cometapi.com"
    file('[upstreams.elkapi]\nbase_url = "http://127.0.0.1:1/"\n')
    assert load({}).upstreams == {}  # configured, and off until its key is there
    elkapi = load({"ELKAPI_KEY": "e"}).upstreams["elkapi"]
    assert (elkapi.base_url, elkapi.key.get_secret_value()) == ("http://127.0.0.1:1", "e")


def test_known_upstreams_serve_in_their_order_and_others_after_them() -> None:
    file('[upstreams.mine]\nkey = "k"\nbase_url = "http://127.0.0.1:1"\ndialects = ["runway/official"]\n')
    assert list(load({"RUNWAYML_API_SECRET": "r", "ELKAPI_KEY": "e"}).upstreams) == ["elkapi", "runwayml", "mine"]


@pytest.mark.parametrize("url", ["https://api.elkapi.com/v1", "https://api.elkapi.com/v1/", "http://x/proxy/v1"])
def test_a_base_url_is_the_bare_host(url: str) -> None:
    [line] = mistakes({"ELKAPI_KEY": "k", "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": url})
    assert "leave out /v1" in line


@pytest.mark.parametrize(
    "text",
    ["upstreams = 1", "[upstreams]\nelkapi = 1", "upstreams = []", "api_keys = 1", "[upstreams.elkapi]\nkey = 1"],
)
def test_a_file_of_another_shape_is_a_mistake_and_not_a_crash(text: str) -> None:
    found = mistakes({"ELKAPI_KEY": "k", "DOVECOTE_UPSTREAMS__ELKAPI__CALLBACKS": "off"}, file(text))
    assert found[0].startswith(("upstreams", "api_keys"))


# ── secrets ────────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = "Zk7!q9Wx"
PLACES = [
    ("DOVECOTE_DATABASE_URL", "postgresql://user:{}@@x:y@host/db"),
    ("DOVECOTE_DATABASE_URL", "postgresql://user:{}:x@host:port/db"),
    ("DOVECOTE_DATABASE_URL", "postgresql://user:a@b:{}@host/db"),
    ("DOVECOTE_DATABASE_URL", "mysql://user:{}@host/db"),
    ("DOVECOTE_DATABASE_URL", "{}"),
    ("DOVECOTE_PUBLIC_URL", "https://user:{}@host"),
    ("DOVECOTE_PUBLIC_URL", "https://host:{}"),
    ("DOVECOTE_PUBLIC_URL", "{}"),
    ("DOVECOTE_WEBHOOK_SECRET", "{}"),
    ("DOVECOTE_API_KEYS", "{}"),
    ("DOVECOTE_API_KEYS", "alice={}"),
    ("DOVECOTE_API_KEYS", "{}{}{}=="),
    ("DOVECOTE_API_KEYS", "{}{}{}=a"),
    ("DOVECOTE_API_KEYS", "{0}{0}{0},{0}{0}{0}="),
    ("DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL", "https://{}@host"),
    ("DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL", "https://host:{}/v1"),
    ("DOVECOTE_PORT", "{}"),
    ("DOVECOTE_LOG_LEVEL", "{}"),
    ("DOVECOTE_ALLOW_PRIVATE_WEBHOOKS", "{}"),
]


@pytest.mark.parametrize(("variable", "value"), PLACES)
def test_no_message_repeats_what_may_be_a_secret(variable: str, value: str) -> None:
    given = value.format(*[SECRET] * value.count("{}"), SECRET)
    text = " ".join(mistakes({variable: given, "ELKAPI_KEY": "k", "DOVECOTE_UPSTREAMS__ELKAPI__CONCURRENCY": "0"}))
    assert text
    for length in (len(SECRET), 5):
        assert SECRET[:length] not in text


SENSITIVE = sorted(name for name in Settings.model_fields if name not in {"upstreams", "host"})


@given(st.sampled_from(SENSITIVE), st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_value_is_repeated_whatever_it_is(name: str, value: str) -> None:
    marked = f"{value}{SECRET}"
    try:
        load({f"DOVECOTE_{name.upper()}": marked}, None)
    except SettingsError as error:
        assert SECRET not in str(error)  # noqa: PT017 - not every value is a mistake


def test_secrets_are_not_printed_with_the_settings() -> None:
    settings = load({"DOVECOTE_API_KEYS": f"alice={KEY}", "ELKAPI_KEY": SECRET, "DOVECOTE_CALLBACK_SECRET": SECRET})
    assert isinstance(settings.callback_secret, SecretStr)
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in text
        assert KEY not in text


def test_what_the_library_says_of_a_mistake_does_not_repeat_it_either() -> None:
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate({"port": SECRET})
    assert SECRET not in str(raised.value)


# ── balances and the account ───────────────────────────────────────────────────────────────────────────────────────


def test_hosts_for_balances_are_known_by_name_and_only_beside_the_known_api() -> None:
    upstreams = load({"ELKAPI_KEY": "k", "COMETAPI_KEY": "k", "RUNWAYML_API_SECRET": "k"}).upstreams
    assert {name: each.query_url for name, each in upstreams.items()} == {
        "elkapi": "https://query.elkapi.com",
        "cometapi": "https://query.cometapi.com",
        "runwayml": "",
    }
    elsewhere = {"ELKAPI_KEY": "k", "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "http://127.0.0.1:8090"}
    assert load(elsewhere).upstreams["elkapi"].query_url == "", "a key must not go from a sandbox to the real host"
    slash = {"ELKAPI_KEY": "k", "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "https://api.elkapi.com/"}
    assert load(slash).upstreams["elkapi"].query_url == "https://query.elkapi.com"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"QUERY_KEY": SECRET, "BASE_URL": "http://gateway.example"}, "query_key: say query_url too"),
        ({"QUERY_KEY": f"{SECRET} …"}, "holds characters that no key has"),
        ({"QUERY_URL": f"https://query.example/?key={SECRET}"}, "query or fragment cannot serve here"),
        ({"ACCOUNT_TOKEN": SECRET}, "account_token and account_user belong together"),
        ({"ACCOUNT_USER": "7"}, "account_token and account_user belong together"),
        ({"ACCOUNT_TOKEN": SECRET, "ACCOUNT_USER": "me"}, "number of your account"),
    ],
)
def test_what_belongs_together_and_what_cannot_be(more: dict[str, str], words: str) -> None:
    given = {f"DOVECOTE_UPSTREAMS__ELKAPI__{name}": value for name, value in more.items()}
    said = " ".join(mistakes({"ELKAPI_KEY": "k", **given}))
    assert words in said
    assert SECRET not in said


def test_the_accounts_number_may_be_a_number() -> None:
    file('[upstreams.elkapi]\nkey = "k"\naccount_token = "t"\naccount_user = 1207\n')
    assert load({}).upstreams["elkapi"].account_user == "1207"


def test_keys_of_upstreams_are_not_printed() -> None:
    given = {"QUERY_KEY": SECRET, "ACCOUNT_TOKEN": SECRET, "ACCOUNT_USER": "7"}
    settings = load(
        {"ELKAPI_KEY": "k", **{f"DOVECOTE_UPSTREAMS__ELKAPI__{name}": value for name, value in given.items()}}
    )
    for text in (repr(settings), settings.model_dump_json()):
        assert SECRET not in text


# ── routes and policies ────────────────────────────────────────────────────────────────────────────────────────────


def test_routes_and_policies_are_read_from_the_file_and_the_environment_wins() -> None:
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


def test_every_mistake_in_the_routes_is_said_in_a_line_of_its_own() -> None:
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
        "routes.suno: leave it out, or name at least one upstream",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DOVECOTE_ROUTES", "elkapi", "write DOVECOTE_ROUTES__<NAME>"),
        ("DOVECOTE_ROUTES__RUNWAY__FIRST", "elkapi", "write DOVECOTE_ROUTES__<NAME>"),
        ("DOVECOTE_ON_UNCERTAIN_BY_CLIENT", "hold", "write DOVECOTE_ON_UNCERTAIN_BY_CLIENT__<NAME>"),
        ("DOVECOTE_ROUTES__RUNWAY", "", "no upstream '' is configured"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__OPEN_TASKS", "0", "upstreams.elkapi.open_tasks"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__SUBMITS_PER_SECOND", "0", "upstreams.elkapi.submits_per_second"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__POLLS_PER_SECOND", "-1", "upstreams.elkapi.polls_per_second"),
        ("DOVECOTE_UPSTREAMS__ELKAPI__WHEN_FULL", "wait or next", "upstreams.elkapi.when_full"),
    ],
)
def test_a_mistake_in_routes_and_limits_says_where_it_is(variable: str, value: str, says: str) -> None:
    [found] = mistakes({"ELKAPI_KEY": "k", variable: value})
    assert says in found


def test_a_route_may_name_an_upstream_whose_key_is_not_there_yet() -> None:
    assert load({"DOVECOTE_ROUTES__RUNWAY": "elkapi"}).routes == {"runway": ("elkapi",)}
