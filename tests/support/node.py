"""Node, and the TypeScript client for it."""

import asyncio
import os
import shutil
from pathlib import Path

from tests.support.waiting import LIMIT

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "typescript"
NODE = shutil.which("node")


async def run(*command: str, **environment: str) -> tuple[int | None, str]:
    """Run a command beside the client, and return its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=CLIENT,
        env={**os.environ, "NO_PROXY": "*", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), LIMIT * 2)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode()
