"""An ASGI app that implements the aggregators' and providers' real protocols and causes faults on demand."""

from service.sandbox.app import Sandbox
from service.sandbox.callbacks import Send
from service.sandbox.connections import ConnectionCut, InProcessTransport
from service.sandbox.faults import FAULTS, Faults
from service.sandbox.jobs import Job, Ledger
from service.sandbox.receiver import Received, Receiver
from service.sandbox.server import running, serve

__all__ = [
    "FAULTS",
    "ConnectionCut",
    "Faults",
    "InProcessTransport",
    "Job",
    "Ledger",
    "Received",
    "Receiver",
    "Sandbox",
    "Send",
    "running",
    "serve",
]
