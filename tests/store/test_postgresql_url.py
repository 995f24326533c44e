"""Database URLs of hosting providers: libpq's parameters, several hosts, and errors that name the mistake."""

from pathlib import Path

import pytest

from service.store.database import parse_url
from service.store.postgresql import check_files, parse


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        pytest.param("postgresql://u@db/x", [("db", 5432)], id="default port"),
        pytest.param("postgres://u@db:6543/x", [("db", 6543)], id="short scheme"),
        pytest.param("postgresql+asyncpg://u@db/x", [("db", 5432)], id="scheme with a driver"),
        pytest.param("postgresql://u@a:1,b:2,c/x", [("a", 1), ("b", 2), ("c", 5432)], id="several hosts"),
        pytest.param("postgresql://u@[::1]:7/x", [("::1", 7)], id="IPv6"),
        pytest.param("postgresql:///x?host=/run/postgresql", [("/run/postgresql", 5432)], id="socket"),
        pytest.param("postgresql:///x?host=a,b&port=1,2", [("a", 1), ("b", 2)], id="hosts as parameters"),
        pytest.param("postgresql:///x?host=a,b&port=7", [("a", 7), ("b", 7)], id="one port for all hosts"),
        pytest.param("postgresql://u@/x?hostaddr=10.0.0.1", [("10.0.0.1", 5432)], id="address"),
    ],
)
def test_hosts_of_a_url_are_read_as_libpq_reads_them(url: str, hosts: list[tuple[str, int]]) -> None:
    assert list(parse(url).hosts) == hosts
    assert parse_url(url).get_backend_name() == "postgresql"


@pytest.mark.parametrize(
    "parameters",
    [
        "sslmode=require",
        "sslmode=verify-full&sslrootcert=/etc/ca.pem&sslcert=c.pem&sslkey=k.pem",
        "connect_timeout=10&keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=5&tcp_user_timeout=9000",
        "application_name=x&options=-c%20search_path%3Dd",
        "target_session_attrs=read-write",
        "sslmode=require&channel_binding=require",
        "gssencmode=disable&sslcompression=0&client_encoding=utf8",
    ],
)
def test_parameters_of_libpq_are_accepted(parameters: str) -> None:
    parse_url(f"postgresql://u:p@db/x?{parameters}")


def test_parameters_have_their_effect() -> None:
    target = parse(
        "postgresql://u:p%40ss@db/x?connect_timeout=3&keepalives=0&tcp_user_timeout=2500&sslmode=require&options=-c%20x%3D1"
    )
    assert (target.password, target.connect_timeout, target.keepalives, target.tcp_user_timeout) == (
        "p@ss",
        3,
        False,
        2.5,
    )
    assert target.dsn("h", 1) == "postgresql://u:p%40ss@/x?sslmode=require&host=h&port=1"
    assert target.session == {"application_name": "dovecote", "options": "-c x=1"}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("ssl_mode=require", "unknown parameter 'ssl_mode'"),
        ("pgbouncer=true", "unknown parameter 'pgbouncer'"),
        ("connect_timeout=soon", "connect_timeout in the database URL must be a whole number"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("gssencmode=require", "gssencmode in the database URL may only be"),
        ("port=99999", "port in the database URL"),
        ("port=x", "port in the database URL"),
    ],
)
def test_mistake_in_a_parameter_is_named_without_the_password(parameters: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as found:
        parse_url(f"postgresql://u:hunter2@db/x?{parameters}")
    assert "hunter2" not in str(found.value)


def test_password_is_in_no_text_of_a_target() -> None:
    assert "hunter2" not in repr(parse("postgresql://u:hunter2@db/x"))


def test_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("a certificate")
    check_files(f"postgresql://u@db/x?sslmode=verify-full&sslrootcert={tmp_path}/ca.pem")
    with pytest.raises(ValueError, match=r"sslcert: the file cannot be read \(No such file"):
        check_files(f"postgresql://u@db/x?sslrootcert={tmp_path}/ca.pem&sslcert={tmp_path}/nothing.pem")
