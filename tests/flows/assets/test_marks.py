"""The C2PA mark "made by AI": in a second file, valid, and never in the way of keeping."""

import base64
import datetime as dt
import io
import wave
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.flows.assets import marks as marks_module
from service.sandbox.files import FILES
from tests.support.kept_results import assets_of, keeping, kept_file, names, stored
from tests.support.world import World

PNG, MP4 = FILES["png"][1], FILES["mp4"][1]
_NO_USAGE = dict.fromkeys(
    (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def certified(folder: Path, key: Any) -> dict[str, str]:
    """Write a key and its certificate chain, and return the settings that name them."""
    now, authority = dt.datetime.now(dt.UTC), ec.generate_private_key(ec.SECP256R1())

    def named(name: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Doves"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )

    def built(name: str, public: Any, usage: dict[str, bool], *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("CA"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.KeyUsage(**{**_NO_USAGE, "digital_signature": True, **usage}), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )

    root = built("CA", authority.public_key(), {"key_cert_sign": True}, ca=True).sign(authority, hashes.SHA256())
    leaf = built("Dovecote", key.public_key(), {}, ca=False)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    pem = serialization.Encoding.PEM
    chain = leaf.sign(authority, hashes.SHA256()).public_bytes(pem) + root.public_bytes(pem)
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {
        "DOVECOTE_RESULTS__MARK_CERTIFICATE": str(folder / "chain.pem"),
        "DOVECOTE_RESULTS__MARK_KEY": str(folder / "key.pem"),
    }


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    marks_module._read.cache_clear()
    return certified(tmp_path, ec.generate_private_key(ec.SECP256R1()))


def manifest_of(content: bytes, media_type: str, folder: Path) -> Any:
    (folder / "read").write_bytes(content)
    with (folder / "read").open("rb") as file, c2pa.Reader(media_type, file) as reader:
        assert reader.get_validation_state() == "Valid"
        return reader.get_active_manifest()


def sound() -> bytes:
    """Return a second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 8000, 8000, "NONE", ""))
        written.writeframes(bytes(16_000))
    return file.getvalue()


MP3 = (b"\xff\xfb\x90\x00" + bytes(413)) * 40
"""A second of silence: frames of 417 bytes."""
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEAYABgAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQEw8QEBD/"
    "yQALCAABAAEBAREA/8wABgAQEAX/2gAIAQEAAD8A0s8g/9k="
)
WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
MARKABLE: dict[str, tuple[str, bytes]] = {
    "png": ("image", PNG),
    "jpeg": ("image", JPEG),
    "webp": ("image", WEBP),
    "mp4": ("video", MP4),
    "wav": ("audio", sound()),
    "mp3": ("audio", MP3),
}


@pytest.mark.parametrize(("kind", "content"), MARKABLE.values(), ids=MARKABLE)
async def test_marked_copy_is_served_and_the_original_kept(
    sqlite_url: str, settings: dict[str, str], tmp_path: Path, kind: Any, content: bytes
) -> None:
    async with keeping(sqlite_url, **settings) as world:
        task = await kept_file(world, content, kind)
        [asset] = await assets_of(world, task)
        assert asset.marked
        where = f"/v1/tasks/{task.id}/results/0/content"
        served = await world.client.get(where)
        assert served.headers["etag"] == f'"{asset.sha256}-marked"'
        assert (await world.client.get(where, params={"original": "true"})).content == content
        assert (await world.client.get(where, headers={"Range": "bytes=0-3"})).content == served.content[:4]
    manifest = manifest_of(served.content, served.headers["content-type"], tmp_path)
    [action] = next(each for each in manifest["assertions"] if each["label"].startswith("c2pa.actions"))["data"][
        "actions"
    ]
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
        (rsa.generate_private_key(65537, 2048), "ps256"),
    ],
    ids=["p384", "ed25519", "rsa"],
)
def test_algorithm_is_that_of_the_key(tmp_path: Path, key: Any, algorithm: str) -> None:
    certified(tmp_path, key)
    marks_module._read.cache_clear()
    assert marks_module._read(tmp_path / "chain.pem", tmp_path / "key.pem").algorithm == algorithm


async def test_file_that_is_marked_already_stays_as_it_is(
    sqlite_url: str, settings: dict[str, str], tmp_path: Path
) -> None:
    async with keeping(sqlite_url, **settings) as world:
        task = await kept_file(world, PNG, "image")
        marked = (await world.client.get(f"/v1/tasks/{task.id}/results/0/content")).content
        again = await kept_file(world, marked, "image")
        [asset] = await assets_of(world, again)
        assert not asset.marked
        assert await stored(world, asset.object) == marked
    manifest_of(marked, "image/png", tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n damaged", "the mark cannot be written: "),
        (b"RIFF\x24\0\0\0WAVEfmt ", "the mark cannot be written: "),
        (b"glTF\2\0\0\0", "a file of the type model/gltf-binary takes no mark"),
        (b"a dove", "a file of the type text/plain takes no mark"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", "a file of the type video/webm takes no mark"),
    ],
    ids=["damaged picture", "damaged sound", "model", "text", "webm"],
)
async def test_file_that_cannot_be_marked_is_kept_and_says_why(
    sqlite_url: str, settings: dict[str, str], content: bytes, reason: str
) -> None:
    async with keeping(sqlite_url, **settings) as world:
        task = await kept_file(world, content, "model")
        [asset] = await assets_of(world, task)
        assert (asset.state, asset.marked) == ("kept", False)
        assert await stored(world, asset.object) == content
        [result] = (await world.client.get(f"/v1/tasks/{task.id}")).json()["results"]
        assert result["not_marked_because"].startswith(reason)
        history = (await world.client.get(f"/v1/tasks/{task.id}/events")).json()["events"]
        [event] = [each for each in history if each["type"] == "results_kept"]
        assert event["data"]["results"][0]["not_marked_because"] == result["not_marked_because"]


async def test_key_that_cannot_be_read_costs_no_original(
    sqlite_url: str, settings: dict[str, str], tmp_path: Path
) -> None:
    with_password = serialization.BestAvailableEncryption(b"secret")
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, with_password
    )
    (tmp_path / "key.pem").write_bytes(key)
    marks_module._read.cache_clear()
    async with keeping(sqlite_url, **settings) as world:
        task = await kept_file(world, PNG, "image")
        [asset] = await assets_of(world, task)
        assert (asset.state, asset.marked) == ("kept", False)
        [result] = (await world.client.get(f"/v1/tasks/{task.id}")).json()["results"]
        assert result["not_marked_because"].startswith("the mark cannot be made")


async def test_copy_without_marks_set_up_says_nothing_about_them(sqlite_url: str) -> None:
    async with keeping(sqlite_url) as world:
        task = await kept_file(world, PNG, "image")
        [result] = (await world.client.get(f"/v1/tasks/{task.id}")).json()["results"]
        assert "not_marked_because" not in result


async def test_deleted_results_leave_no_marked_copy(sqlite_url: str, settings: dict[str, str]) -> None:
    async with keeping(sqlite_url, **settings) as world:
        task = await kept_file(world, PNG, "image")
        assert len(await names(world)) == 3
        await world.client.delete(f"/v1/tasks/{task.id}/results")
        await world.work()
        assert await names(world) == []
        assert isinstance(world, World)
