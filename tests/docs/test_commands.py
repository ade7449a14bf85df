"""The commands that pages show can be given: `limpet` has these options, `make` these targets, pip these extras."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from tests.docs.blocks import blocks
from tests.docs.pages import PAGES, ROOT, without_code

from limpet.cli.commands import cli

SHELLS = ("sh", "bash", "shell", "console")
NAMES = {str(page.relative_to(ROOT)): page for page in PAGES}
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SEPARATORS = {"|", "||", "&", "&&", ";", "(", ")"}


class Shown(NamedTuple):
    """A command of a page: whole, as in a block, or mentioned in the text without its arguments."""

    words: list[str]
    whole: bool


def commands(text: str) -> Iterator[Shown]:
    """Yield the commands of the blocks for a shell, of indented blocks, and of code within the text."""
    lines = []
    for block in blocks(text):
        if block.language in SHELLS:
            prompt = "$ " if block.language == "console" else ""
            whole = block.code.replace("\\\n", " ").splitlines()
            lines += [line.removeprefix(prompt) for line in whole if line.startswith(prompt)]
    prose = re.sub(r"<!--.*?-->", "", without_code(text), flags=re.DOTALL)
    lines += [line.strip() for line in re.findall(r"^ {4}(?:\S*limpet|make|pip) .*$", prose, re.MULTILINE)]
    for line in lines:
        for words in split(line):
            yield Shown(words, True)
    for code in re.findall(r"(?<!`)`((?:limpet|make) [^`]+)`", " ".join(prose.split())):
        for words in split(code):
            yield Shown(words, False)


def split(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line, without the variables before them and without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if word in SEPARATORS:
            if words:
                yield words
            words = []
        elif skip or set(word) <= {">", "<"}:
            skip = not skip
        elif words or "=" not in word.partition(" ")[0] or word.startswith("-"):
            words.append(word)


def mistake(shown: Shown, folder: Path) -> str | None:
    """Return what is wrong with a command; None: nothing."""
    program, *arguments = shown.words
    if program.rpartition("/")[2] == "limpet":
        return mistaken_arguments(arguments, folder, shown.whole)
    if program == "make":
        wanted = [word for word in arguments if re.fullmatch(r"[a-z][\w-]*", word)]
        return next((f"make has no target {target}" for target in wanted if target not in TARGETS), None)
    extras = re.findall(r"limpet\[([\w,]+)\]", " ".join(arguments)) if program == "pip" else []
    unknown = {name for part in extras for name in part.split(",")} - set(PROJECT["optional-dependencies"])
    return f"no extra {unknown}" if unknown else None


def mistaken_arguments(arguments: list[str], folder: Path, whole: bool) -> str | None:
    """Let click read the arguments, without running the command; files that it names need not be there."""
    if not arguments or arguments[0] in ("--help", "-h", "--version"):
        return None
    command = cli.commands.get(arguments[0])
    if command is None:
        return f"limpet has no command {arguments[0]}"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in arguments[1:]:
        name = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][\w-]*", name) and name not in known | {"--help", "-h"} and name[:2] not in known:
            return f"limpet {arguments[0]} has no option {name}"
    if not whole:
        return None
    try:
        # Without the values: they are placeholders, and files that are not here.
        parser = command.make_parser(click.Context(command, info_name=arguments[0]))
        parser.parse_args(list(arguments[1:]))
    except click.UsageError as error:
        return f"limpet {shlex.join(arguments)}: {error.format_message()}"
    return None


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_a_page_can_be_given(name: str, tmp_path: Path) -> None:
    found = [mistake(shown, tmp_path) for shown in commands(NAMES[name].read_text("utf-8"))]
    assert [each for each in found if each] == []


def test_commands_are_found() -> None:
    assert sum(len(list(commands(page.read_text("utf-8")))) for page in NAMES.values()) > 50


PAGE = """
```sh
KEY=x limpet serve --port 0 --no-such | limpet sub --url URL g > file   # not limpet gone
limpet pub --url URL g "hello" && limpet nothing
make docs nowhere
pip install 'limpet[cli,gone]'
```

Call `limpet pub --gone`, not `limpet pub --url`.

    limpet pub --url
"""


def test_mistakes_are_found(tmp_path: Path) -> None:
    found = [each for shown in commands(PAGE) if (each := mistake(shown, tmp_path))]
    assert found == [
        "limpet serve has no option --no-such",
        "limpet has no command nothing",
        "make has no target nowhere",
        "no extra {'gone'}",
        "limpet pub --url: Option '--url' requires an argument.",
        "limpet pub has no option --gone",
    ]
