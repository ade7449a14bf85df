"""The settings of the documentation site: ``make docs`` builds it, without a network and without a warning."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import limpet

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Limpet"
author = "The Limpet developers"
project_copyright = author
release = limpet.__version__
version = release

extensions = [
    "reference",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["_build"]
language = "en"
# What is written stands there: smart quotes would turn `--url` in the help of a command into a dash.
smartquotes = False

# ---- Pages

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
# The pictures are drawn by the reader's browser, which fetches this version; without it, it shows the text.
mermaid_version = "11.12.0"

# ---- Reference, from docstrings

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_default_options = {
    "members": True,
    "inherited-members": "Struct,Exception,BaseException,Enum,tuple,Mapping,object",
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False
napoleon_numpy_docstring = False
napoleon_preprocess_types = False
napoleon_use_ivar = False
napoleon_use_rtype = False

# Every name that a docstring refers to must be in the reference. Names of other projects have no pages here, since the
# build needs no network; private names and type variables have none by intent.
OTHERS = "aiohttp|anyio|asyncio|click|collections|concurrent|contextlib|httpx|logging|msgspec|opentelemetry"
OTHERS += "|os|pathlib|picows|_?pytest|random|socket|ssl|starlette|threading|trio|types|uvicorn|websockets"
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", "_asyncio.Future"),  # which asyncio.Future calls itself
    ("py:.*", rf"({OTHERS})(\..*)?"),
    ("py:.*", r"limpet(_core)?\.([\w.]+\.)?_[\w.]+"),
    ("py:.*", r"limpet(_core)?\.[\w.]+\.[A-Z](_co)?"),
    ("py:.*", r"limpet_core\.[\w.]+|limpet\.sync\.driver\..*|MissingExtra"),
    ("py:.*", r"limpet\.testing\.(contract|conformance|virtual)\.\w+\.\w+"),
]

# ---- The look

html_theme = "furo"
html_title = "Limpet"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b7285",
        "color-brand-content": "#0b7285",
        "color-api-name": "#0b7285",
    },
    "dark_css_variables": {
        "color-brand-primary": "#66d9e8",
        "color-brand-content": "#66d9e8",
        "color-api-name": "#66d9e8",
    },
}

COMMENT = re.compile(r"^<!--.*?-->$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(^```.*?^```$)|\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s:#]+)(#[^)\s]*)?\)", re.DOTALL | re.MULTILINE)
DOCS = Path(__file__).parent
WHOLE = {"reference/changelog": "CHANGELOG.md", "explanation/contributing": "CONTRIBUTING.md"}
"""Pages that are files of the repository's root."""


def with_the_others(page: str, text: str) -> str:
    """Put all other pages of the folder where a table of contents has a ``*``; Sphinx warns if no page is left."""
    named = set(re.findall(r"^[\w-]+$", text, re.MULTILINE)) | {"index"}
    others = sorted({path.stem for path in (DOCS / page).parent.glob("*.md")} - named)
    return re.sub(r"^\*$", "\n".join(others), text, flags=re.MULTILINE)


def as_page(_: Sphinx, page: str, source: list[str]) -> None:
    """Make a page of the site from a file of the repository.

    Comments, which have hidden code and marks for the tests, are left out. Links to Markdown outside of docs/ lead to
    its page on the site, or nowhere.
    """
    here = DOCS / page
    if page in WHOLE:
        here = DOCS.parent / WHOLE[page]
        source[0] = here.read_text("utf-8")
    pages = {DOCS.parent / file: f"{page}.md" for page, file in WHOLE.items()} | {DOCS.parent / "README.md": "index.md"}

    def mended(found: re.Match[str]) -> str:
        if found[1]:
            return found[0]
        target = (here.parent / found[3]).resolve()
        if not target.is_relative_to(DOCS):
            if target.suffix != ".md":
                return found[0] if page not in WHOLE else f"`{found[3]}`"
            if target not in pages:
                return f"{found[2]} (`{target.relative_to(DOCS.parent)}`)"
            target = DOCS / pages[target]
        return f"[{found[2]}]({os.path.relpath(target, (DOCS / page).parent)}{found[4] or ''})"

    text = COMMENT.sub(lambda found: "\n" * found[0].count("\n"), source[0])
    source[0] = with_the_others(page, LINK.sub(mended, text))


def setup(app: Sphinx) -> None:
    """Connect the functions of this file."""
    app.connect("source-read", as_page)
