"""The pages: blocks run, links lead somewhere, words are explained, what is generated is new."""

import contextlib
import fnmatch
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tessel.tools.pages import reference

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
FIRST_READ = [
    "README.md",
    "docs/index.md",
    "docs/quickstart.md",
    "docs/concepts.md",
    "docs/life-of-a-model.md",
]
STALE = "this page is not what the code says; run `make docs`"


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    """A page without its blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


# -- the quickstart runs -------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[str, str, int]]:
    """(language, text, line) of each block of code."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
        yield match[1], match[2], text[: match.start()].count("\n") + 2


def test_the_quickstart_runs_and_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    text = (DOCS / "quickstart.md").read_text()
    found = list(blocks(text))
    ran = 0
    for i, (language, code, line) in enumerate(found):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, "docs/quickstart.md", "exec"), names)
        ran += 1
        if "print(" in code:
            _, expected, _ = found[i + 1]
            assert printed.getvalue() == expected, f"docs/quickstart.md, line {line}"
    assert ran > 5


# -- links ---------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.M):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-"))
    return found


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_code(text))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    wrong = []
    for link in links(page.read_text()):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(target.read_text()):
            wrong.append(f"{link}: the page has no such heading")
    assert not wrong


def test_what_a_link_is():
    assert links("[a](b.md#c) `[no](code)` ![d](e.png)") == ["b.md#c", "e.png"]
    assert anchors("# A b-c\n## `f(x)`, and [g](h.md)\n```\n# no\n```\n") == {"a-b-c", "fx-and-g"}


# Files that a page names and that the repository has not: made by a run, or of another place.
ELSEWHERE = {"winners.json", "tuning.json", "export_models.py"}
FOLDERS = ("architecture.md", "concepts.md", "design/*.md", "how-to/*.md")


@pytest.mark.parametrize("page", [p for f in FOLDERS for p in sorted(DOCS.glob(f))], ids=page_id)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    made = set(re.findall(r"^# ([\w./-]+) \((?:new|to try it)\)$", text, re.M))  # by the reader
    there = ["/" + p.relative_to(ROOT).as_posix() for p in files_of_the_repository()]
    named = set(re.findall(r"`([\w/*.-]+\.(?:py|pyi|json|toml|md))`", text)) - made - ELSEWHERE
    assert [n for n in sorted(named) if not fnmatch.filter(there, f"*/{n}")] == []


def files_of_the_repository() -> list[Path]:
    tops = [p for p in ROOT.iterdir() if p.name[0] != "." and p.name not in ("build", "shared")]
    return [f for top in tops for f in ([top] if top.is_file() else top.rglob("*.*"))]


# -- words ---------------------------------------------------------------------------------


def glossary() -> dict[str, str]:
    """Anchor → what is said, of each entry of the glossary."""
    _, _, text = (DOCS / "concepts.md").read_text().partition("\n## Glossary\n")
    entries = re.findall(r"^### ([^\n]*)\n(.*?)(?=^### |\Z)", text, re.M | re.S)
    return {name.lower().replace(" ", "-"): said.strip() for name, said in entries}


def test_the_glossary_is_in_order_and_says_something():
    names = list(glossary())
    assert names == sorted(names) and len(names) > 40
    assert [n for n, said in glossary().items() if len(said) < 30] == []


def special_words(text: str) -> list[tuple[str, str | None]]:
    """(word, where it leads or None) of each emphasised word."""
    found = []
    pattern = (
        r"\[\*(?P<linked>[^*]+)\*\]\((?P<link>[^)]+)\)|(?<![*\w])\*(?P<bare>[^*\s][^*]*)\*(?!\*)"
    )
    for match in re.finditer(pattern, without_code(text)):
        found.append((match["linked"] or match["bare"], match["link"]))
    return found


@pytest.mark.parametrize("name", FIRST_READ)
def test_every_special_word_leads_to_the_glossary(name):
    text, known = (ROOT / name).read_text(), glossary()
    text = text.partition("\n## Glossary\n")[0]
    for word, link in special_words(text):
        assert link is not None, f"*{word}* does not lead to the glossary"
        page, _, anchor = link.partition("#")
        assert (not page or page.endswith("concepts.md")) and anchor in known, f"{word}: {link}"


def test_what_a_special_word_is():
    text = "a [*kernel*](concepts.md#kernel), a *thing*, **bold**, `2 * 3 * 4`"
    assert special_words(text) == [("kernel", "concepts.md#kernel"), ("thing", None)]


# -- what is generated ---------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_the_code_says(name):
    assert (DOCS / "reference" / name).read_text() == reference.PAGES[name](), STALE


def test_the_life_of_a_model_is_what_the_code_prints(tmp_path):
    """In a process of its own: what other tests did to this one is not on the page."""
    command = [sys.executable, "-m", "tessel.tools.pages.life", str(tmp_path / "page.md")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (DOCS / "life-of-a-model.md").read_text() == (tmp_path / "page.md").read_text(), STALE


def test_every_public_name_is_in_the_reference():
    import tessel

    text = (DOCS / "reference" / "api.md").read_text()
    assert [n for n in tessel.__all__ if f"# tessel.{n}\n" not in text] == []


# -- the site ------------------------------------------------------------------------------


def test_the_site_has_every_page():
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]))
    there = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")}
    assert listed == there, "list the page under `nav` in mkdocs.yml"
