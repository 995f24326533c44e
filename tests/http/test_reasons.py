"""Failures of the network are described in words of our own."""

import errno
import socket

import pytest
from aiohttp import ClientConnectorDNSError, ClientConnectorError
from aiohttp.client_reqrep import ConnectionKey

from service.http.reasons import reason_of

KEY = ConnectionKey("secret.example", 443, True, True, None, None, None)
UNKNOWN_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def wrapped(cause: BaseException) -> BaseException:
    """Return an error raised from another one."""
    error = RuntimeError("https://secret.example/path")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(UNKNOWN_NAME, "the host name does not resolve", id="unknown name"),
        pytest.param(
            ClientConnectorDNSError(KEY, UNKNOWN_NAME), "the host name does not resolve", id="unknown name, by aiohttp"
        ),
        pytest.param(
            wrapped(ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "try again"))),
            "the host name does not resolve",
            id="name server away, as the cause",
        ),
        pytest.param(
            ClientConnectorError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "secret.example")),
            "Connection refused",
            id="refused, by aiohttp",
        ),
        pytest.param(wrapped(ValueError("secret.example")), "RuntimeError", id="no error of a socket"),
    ],
)
def test_reason_names_the_failure_and_no_host(error: BaseException, words: str) -> None:
    assert reason_of(error) == words
