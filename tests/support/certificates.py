"""A certificate authority of the tests, made by the openssl command, and TLS contexts of servers with its certificates."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Signs certificates for names and addresses. Only its own contexts trust it."""

    def __init__(self, folder: Path) -> None:
        """Create a key and a root certificate in a folder."""
        self._folder = folder
        self._issued = 0
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
        self._run(
            "req",
            "-x509",
            *_NEW,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=a test",
            *_DAYS,
            *_add(extensions),
        )

    @property
    def file(self) -> Path:
        """Return the file with the root certificate."""
        return self._folder / "ca.pem"

    def trusted(self) -> ssl.SSLContext:
        """Return a client's context that trusts only this authority, and is strict otherwise."""
        return ssl.create_default_context(cafile=str(self._folder / "ca.pem"))

    def serving(self, *alternatives: str) -> ssl.SSLContext:
        """Return a server's context with a certificate for some names (``DNS:…``) and addresses (``IP:…``)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate(*alternatives))
        return context

    def certificate(self, *alternatives: str) -> tuple[Path, Path]:
        """Return the files of a new certificate for some names and addresses, and of its key."""
        self._issued += 1
        name = f"server-{self._issued}"
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(alternatives)}\n")
        self._run("req", *_NEW, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", str(self._issued), "-extfile", extensions.name)
        self._run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing, *_DAYS)
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def _run(self, *command: str) -> None:
        tool = shutil.which("openssl")
        if tool is None:
            pytest.skip("there is no openssl here")
        done = subprocess.run(  # noqa: S603 - the words are our own
            [tool, *command], cwd=self._folder, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = ("-days", "2")


def _add(extensions: tuple[str, ...]) -> list[str]:
    return [word for each in extensions for word in ("-addext", each)]
