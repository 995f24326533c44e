"""A hook of MkDocs: files outside of docs/ become pages, links to other files become names, decisions are listed."""

import re
from pathlib import Path
from posixpath import join, normpath, relpath
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "clients/typescript/README.md": "typescript-client.md",
}
"""Files of the checkout, and the pages that they become."""
TITLES: Final = {"index.md": "Overview", "typescript-client.md": "The TypeScript client"}
"""Titles in the navigation, where the heading of a page is another."""

LINK: Final = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every decision in the navigation, the newest first."""
    notes = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"), reverse=True)
    nav: list[dict[str, list[str]]] = config["nav"]
    nav[-1]["Decisions"].extend(f"decisions/{path.name}" for path in notes)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Remove the addresses of scripts at other hosts from the theme: it would load them for old browsers and Mermaid."""
    for path in Path(config.site_dir, "assets", "javascripts").rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"https://unpkg\.com/[^\"]*", "", text), encoding="utf-8")
    for path in Path(config.site_dir, "assets").rglob("*.map"):
        path.unlink()


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page whose links lead to pages of the site; a link to any other file becomes its name."""
    del config
    here = page.file.src_uri
    if here in TITLES:
        page.meta["title"] = TITLES[here]
    source = next((name for name, made in PAGES.items() if made == here), f"docs/{here}")
    folder = source.rpartition("/")[0]

    def replaced(found: re.Match[str]) -> str:
        target = found["target"]
        if ":" in target:
            return found[0]
        path = normpath(join(folder, target))
        if path == "README.md":
            return f"[{found['text']}]({relpath('index.md', here.rpartition('/')[0] or '.')})"
        inside = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if path == "docs/decisions":
            inside = "decisions/README.md"
        if inside is None or files.get_file_from_path(inside) is None:
            return f"{found['text']} (`{path}`)" if path not in found["text"] else found["text"]
        return f"[{found['text']}]({relpath(inside, here.rpartition('/')[0] or '.')}{found['anchor'] or ''})"

    return LINK.sub(replaced, markdown)
