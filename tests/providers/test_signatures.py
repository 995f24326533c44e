"""Signatures of callbacks: what verifies, and every single change that must not."""

import base64
import dataclasses
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.flows.callbacks.receive import kept_headers
from service.providers.signatures import TOLERANCE, ed25519_over_digest, hex_hmac, standard_webhook
from service.providers.wire import Callback

VECTORS = sorted((Path(__file__).parents[1] / "recordings" / "standard-webhooks" / "vectors").glob("*.json"))
NOW = 1_764_180_000
BODY = b'{"request_id": "r1", "status": "OK"}'


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector_of_standard_webhooks_gets_its_verdict(path: Path) -> None:
    vector = json.loads(path.read_text(encoding="utf-8"))
    callback = Callback(vector["headers"], vector["raw_body"].encode())
    assert standard_webhook(callback, vector["secret"]) is vector["reading"]["verified"]


SECRET = "whsec_" + base64.b64encode(b"a secret of some length").decode()


def standard(*, at: int = NOW, name: str = "msg_1", body: bytes = BODY, received_at: float = NOW) -> Callback:
    signed = f"{name}.{at}.".encode() + body
    signature = base64.b64encode(hmac.digest(b"a secret of some length", signed, hashlib.sha256)).decode()
    headers = {"webhook-id": name, "webhook-timestamp": str(at), "webhook-signature": f"v1a,x v1,{signature}"}
    return Callback(headers, body, received_at)


KEYS = [Ed25519PrivateKey.generate() for _ in range(3)]
KEY_SET = json.dumps(
    {
        "keys": [{"kty": "RSA", "n": "x"}]
        + [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("="),
            }
            for key in KEYS[:2]
        ]
    }
)


def ed25519(*, at: int = NOW, key: Ed25519PrivateKey = KEYS[1], received_at: float = NOW) -> Callback:
    message = f"r1\nuser|1\n{at}\n{hashlib.sha256(BODY).hexdigest()}"
    headers = {
        "X-Fal-Webhook-Request-Id": "r1",
        "X-Fal-Webhook-User-Id": "user|1",
        "X-Fal-Webhook-Timestamp": str(at),
        "X-Fal-Webhook-Signature": key.sign(message.encode()).hex(),
    }
    return Callback(headers, BODY, received_at)


def checks_standard(callback: Callback) -> bool:
    return standard_webhook(callback, SECRET)


def checks_ed25519(callback: Callback) -> bool:
    return ed25519_over_digest(callback, KEY_SET, prefix="x-fal-webhook-", first="request-id")


@pytest.mark.parametrize(
    ("sign", "check"), [(standard, checks_standard), (ed25519, checks_ed25519)], ids=["standard", "ed25519"]
)
def test_signature_is_right_until_anything_changes(sign, check) -> None:
    right = sign()
    assert check(right)
    assert check(sign(at=NOW - int(TOLERANCE)))
    assert not check(sign(at=NOW - int(TOLERANCE) - 1)), "too old"
    assert not check(sign(at=NOW + int(TOLERANCE) + 1)), "from the future"
    assert not check(dataclasses.replace(right, body=right.body + b" "))
    for name, value in right.headers.items():
        assert not check(dataclasses.replace(right, headers={**right.headers, name: value[:-1] + "~"})), name
        assert not check(dataclasses.replace(right, headers={**right.headers, name: ""})), name
        without = {other: kept for other, kept in right.headers.items() if other != name}
        assert not check(dataclasses.replace(right, headers=without)), name
    assert not check(Callback({}, b""))


@pytest.mark.parametrize("key_set", ["", "{}", "[]", "nonsense", '{"keys": [null, {"x": 5}, {"x": "AAAA"}]}'])
def test_key_set_without_a_usable_key_verifies_nothing(key_set: str) -> None:
    assert not ed25519_over_digest(ed25519(), key_set, prefix="x-fal-webhook-", first="request-id")
    assert not checks_ed25519(ed25519(key=KEYS[2])), "a key that is not in the set"


def test_secret_that_is_no_base64_verifies_nothing() -> None:
    assert not standard_webhook(standard(), "whsec_not base64!")
    assert not standard_webhook(standard(), "whsec_")


def test_hexadecimal_signature_covers_the_body() -> None:
    stated = hmac.digest(b"s3cret", BODY, hashlib.sha256).hex()
    callback = Callback({}, BODY)
    assert hex_hmac(callback, "s3cret", f"sha256={stated}")
    assert hex_hmac(callback, "s3cret", stated.upper())
    assert not hex_hmac(callback, "s3cret", "")
    assert not hex_hmac(callback, "other", stated)
    assert not hex_hmac(Callback({}, BODY + b" "), "s3cret", stated)


def test_headers_that_signatures_need_are_stored() -> None:
    """A callback is verified after it was stored, so the stored headers must suffice."""
    for callback in (standard(), ed25519()):
        given = {name.lower(): value for name, value in callback.headers.items()}
        assert kept_headers(given) == given
    assert kept_headers({"x-bfl-signature": "sha256=00", "authorization": "x"}) == {"x-bfl-signature": "sha256=00"}
