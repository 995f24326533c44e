"""The processes of the demo: the sandbox as provider, a receiver as client, and Dovecote."""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

from service.cli.demo.money import PRICES
from service.cli.demo.story import JOB_SECONDS, UPSTREAMS
from service.cli.practice import SECRET_VARIABLE, plug, plug_account
from service.cli.processes import LOOPBACK, ProcessGroup, Served, clean_environment, free_ports
from service.domain.webhook_secret import derive_secret


class Stage:
    """Three processes on free ports of this machine. All their files are in one folder."""

    def __init__(self, folder: Path, *, seconds: float = JOB_SECONDS, port: int | None = None) -> None:
        """Prepare the processes. Nothing starts yet.

        :param seconds: how long a job takes
        :param port: where Dovecote listens; default a free port
        """
        self.folder = folder
        environment = clean_environment()
        ports = free_ports(3)
        ports[2] = ports[2] if port is None else port
        installation = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        secret = {SECRET_VARIABLE: installation}
        received = {SECRET_VARIABLE: derive_secret(installation, "default", 1)}
        self.sandbox = Served(
            name="sandbox",
            arguments=("sandbox", "--port", str(ports[0]), "--seconds", f"{seconds:g}"),
            environment=environment,
            port=ports[0],
            folder=folder,
        )
        self.receiver = Served(
            name="receiver",
            arguments=("receiver", "--port", str(ports[1])),
            environment={**environment, **received},
            port=ports[1],
            folder=folder,
        )
        self.dovecote = Served(
            name="dovecote",
            arguments=("serve",),
            environment={**environment, **secret, **settings_for(folder, self.sandbox.url, ports[2], seconds)},
            port=ports[2],
            folder=folder,
            health="/readyz",
        )

    def open(self, group: ProcessGroup) -> None:
        """Start all processes, and wait until they serve.

        :raises NotStarted: when one of them does not serve in time
        """
        for served in (self.sandbox, self.receiver, self.dovecote):
            group.start(served)
        for served in group.members:
            served.wait_ready()


def settings_for(folder: Path, sandbox: str, port: int, seconds: float) -> Mapping[str, str]:
    """Return the environment of a Dovecote that has a sandbox as its providers, and its files in one folder.

    :param sandbox: the sandbox's URL
    :param port: where Dovecote listens
    :param seconds: how long a job takes
    """
    (folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    return {
        **plug(sandbox, seconds, *UPSTREAMS),
        **plug_account(sandbox, "elkapi"),
        "DOVECOTE_DATABASE_URL": f"sqlite:///{folder / 'dovecote.db'}",
        "DOVECOTE_HOST": LOOPBACK,
        "DOVECOTE_PORT": str(port),
        "DOVECOTE_PUBLIC_URL": f"http://{LOOPBACK}:{port}",
        "DOVECOTE_ALLOW_PRIVATE_WEBHOOKS": "true",
        "DOVECOTE_MONEY__PRICES_FILE": str(folder / "prices.toml"),
    }
