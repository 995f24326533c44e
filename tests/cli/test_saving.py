"""Results are saved as whole files with fitting names; the API key goes to Dovecote only."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest

from service.cli.saving import NotSaved, check_folder, save_results


class Files(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.path == "/gone.mp4":
            self.send_error(404)
            return
        body = b"content of " + self.path.encode()
        self.send_response(200)
        if self.path.startswith("/typed"):
            self.send_header("Content-Type", "image/webp")
        self.send_header("Content-Length", str(len(body) + 50 * (self.path == "/cut.mp4")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[str]:
    Files.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with contextlib.closing(server.socket):
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def a_task(*results: dict[str, Any]) -> dict[str, Any]:
    return {"id": "0198", "results": list(results)}


def test_results_get_names_by_role_and_media_type(tmp_path: Path, origin: str) -> None:
    task = a_task(
        {"kind": "video", "role": "result", "url": f"{origin}/a.mp4?x=1"},
        {"kind": "image", "role": "last_frame", "url": f"{origin}/typed.png"},
        {"kind": "audio", "role": "result", "url": f"{origin}/no-ending"},
        {"kind": "text", "role": "result", "text": "la la"},
        {"kind": "json", "role": "extra", "text": "{}"},
    )
    saved = save_results(task, tmp_path)
    names = [
        "0198-1-result.mp4",
        "0198-2-last-frame.webp",
        "0198-3-result.mp3",
        "0198-4-result.txt",
        "0198-5-extra.json",
    ]
    assert [file.name for file in saved] == names
    assert saved[0].read_bytes() == b"content of /a.mp4?x=1"
    assert saved[3].read_text() == "la la"
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("path", ["gone.mp4", "cut.mp4"])
def test_failed_download_leaves_no_part_and_stops_no_other(tmp_path: Path, origin: str, path: str) -> None:
    task = a_task(
        {"kind": "video", "role": "result", "url": f"{origin}/{path}"},
        {"kind": "video", "role": "result", "url": f"{origin}/b.mp4"},
    )
    with pytest.raises(NotSaved, match="0198-1-result"):
        save_results(task, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["0198-2-result.mp4"]


def test_role_of_a_stranger_names_no_other_folder(tmp_path: Path) -> None:
    [file] = save_results(a_task({"kind": "text", "role": "../../etc/x", "text": "a"}), tmp_path)
    assert file.parent == tmp_path


def test_key_goes_to_dovecote_only(tmp_path: Path, origin: str) -> None:
    task = a_task({"kind": "video", "role": "result", "url": f"{origin}/a.mp4"})
    save_results(task, tmp_path, key=("http://127.0.0.1:1", "secret-key"))
    save_results(task, tmp_path, key=(origin, "secret-key"))
    assert [key for _, key in Files.seen] == [None, "Bearer secret-key"]


def test_folder_is_made_or_refused_before_anything_is_bought(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(click.UsageError, match="cannot be created"):
        check_folder(tmp_path / "file" / "x")
