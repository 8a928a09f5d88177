"""What the documents say of the project is so: links and paths lead somewhere, and protections have their tests."""

import re
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, relative

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:rust|python|tests|docs|examples|benches)/[\w./-]*)(?:::(\w+))?`")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document):
    links = LINK.findall(document.read_text(encoding="utf-8"))
    inside = [link.partition("#")[0] for link in links if not link.startswith("https://")]
    assert [link for link in inside if link and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_paths_and_what_is_named_in_them_exist(document):
    wrong = []
    for path, name in PATH.findall(document.read_text(encoding="utf-8")):
        place = ROOT / path
        defined = rf"\b(?:def|fn) {name}\("
        if not place.exists() or (name and not re.search(defined, place.read_text(encoding="utf-8"))):
            wrong.append(f"{path}::{name}" if name else path)
    assert wrong == []


def test_every_protection_says_where_it_is_and_what_holds_it():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    table = text.partition("| protection | code | tests |\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    assert len(rows) > 20
    for protection, code, tests in rows:
        assert PATH.search(code), f"{protection}: where is it?"
        assert PATH.search(tests), f"{protection}: what holds it?"


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_documents_know_nothing_of_this_machine(document):
    text = document.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
