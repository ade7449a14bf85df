"""The reference, from docstrings: ``.. public-names:: PACKAGE`` describes all that the package has in ``__all__``.

It writes a directive of autodoc for each name, so the reference is complete by construction. A name that another
package has already, such as a class that two clients share, refers to it.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from types import ModuleType
from typing import Any, ClassVar, get_args

from docutils.nodes import Element, Node
from docutils.parsers.rst import directives
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import limpet

PUBLIC = (
    "limpet", "limpet.asyncio", "limpet.trio", "limpet.anyio", "limpet.sync",
    "limpet.connect", "limpet.connect.websockets", "limpet.connect.aiohttp", "limpet.connect.picows",
    "limpet.opentelemetry", "limpet.service", "limpet.service.cluster", "limpet.service.cluster.redis",
    "limpet.testing", "limpet.testing.plugin", "limpet.testing.network", "limpet.testing.log",
    "limpet.testing.contract", "limpet.testing.conformance",
)  # fmt: skip
"""The public packages. A class that several have is described in the first of them."""

OPTIONS = ("Options", "Backoff", "RELIABLE_JSON", "JSON", "RELIABLE_PROTOBUF", "PROTOBUF")
CORE = (
    "Session", "State", "Dial", "Link", "Channel", "Close", "Endpoint", "Proxy", "Tunnel",
    "parse_url", "recovery_url", "parse_proxy", "redact", "unpack", "__version__",
)  # fmt: skip


def names_of(package: str) -> list[str]:
    """Return the public names of a package."""
    module = importlib.import_module(package)
    own = [name for name, each in vars(module).items() if getattr(each, "__module__", "") == package]
    return list(getattr(module, "__all__", [name for name in own if not name.startswith("_")]))


def part_of(name: str) -> str:
    """Return the page on which a name of ``limpet`` is: each name is on one of them."""
    public = getattr(limpet, name)
    if (inspect.isclass(public) and issubclass(public, Exception)) or name == "Outcome":
        return "errors"
    if public in get_args(limpet.Event) or name in ("Event", "Message"):
        return "events"
    return "options" if name in OPTIONS else "core" if name in CORE else "values"


class PublicNames(SphinxDirective):
    """``.. public-names:: limpet`` with ``:part: errors``, or of another package without."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"part": directives.unchanged_required}

    def run(self) -> list[Node]:
        """Write the directives, and read them."""
        package, part = self.arguments[0], self.options.get("part")
        module, order = importlib.import_module(package), OPTIONS + CORE
        about = inspect.getdoc(module) or ""
        lines = [f".. currentmodule:: {package}" if part else f".. module:: {package}\n\n{about}"]
        wanted = [name for name in names_of(package) if part is None or part_of(name) == part]
        wanted.sort(
            key=lambda name: (order.index(name) if name in order else 0, not inspect.isclass(getattr(module, name)))
        )
        lines += [self._directive(package, name) for name in wanted]
        return self.parse_text_to_nodes("\n\n".join(lines))

    def _directive(self, package: str, name: str) -> str:
        public = getattr(importlib.import_module(package), name)
        modules = {one: importlib.import_module(one) for one in PUBLIC}
        home = next((one for one, m in modules.items() if name in dir(m) and getattr(m, name) is public), package)
        if isinstance(public, ModuleType):
            described = f".. automodule:: {public.__name__}\n   :no-inherited-members:"
            return f"{described}\n\n.. currentmodule:: {package}\n\n.. py:data:: {name}\n   :no-typesetting:"
        if home != package and inspect.isclass(public):
            return f".. py:class:: {name}\n   :no-typesetting:\n\nThe class ``{name}`` is :class:`{home}.{name}`."
        if inspect.isclass(public):
            return f".. {'autoexception' if issubclass(public, BaseException) else 'autoclass'}:: {package}.{name}"
        if inspect.isfunction(public) or type(public).__name__.startswith("FixtureFunction"):
            return f".. autofunction:: {package}.{name}"
        return f".. autodata:: {package}.{name}\n   :no-value:"


def without_values(_: Sphinx, __: str, name: str, public: object, ___: bool, ____: object) -> bool | None:
    """Leave out a function or class that is a value of a class, which describes it in its section "Attributes"."""
    if (inspect.isfunction(public) or inspect.isclass(public)) and "__" not in name:
        return True if public.__name__ != name else None
    return None


def whole_first_line(_: Sphinx, what: str, __: str, ___: object, ____: object, lines: list[str]) -> None:
    """Keep napoleon from reading "The name: of what" as a type and its description; an empty comment stops it."""
    if what in ("property", "attribute", "data") and lines:
        lines[:0] = ["..", ""]


def with_values(_: Sphinx, what: str, name: str, public: Any, __: object, lines: list[str]) -> None:
    """Add defaults to the fields of a struct, and to a constant the text below its definition."""
    if what in ("class", "exception"):
        fields = getattr(public, "__struct_fields__", ())
        values = reversed(getattr(public, "__struct_defaults__", ()))
        lines[:] = with_types(lines, dict(zip(reversed(fields), values, strict=False)))
    elif what == "data":
        lines[:] = text_below(name.rpartition(".")[2], public) or lines


def without_objects(
    _: Sphinx, __: str, ___: str, ____: object, _____: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Write ``...`` for a default such as ``<factory>`` or ``<function f>``, which Sphinx cannot read."""
    return None if signature is None else (re.sub(r"(?<==)( ?)<(?:[^<>]|<[^<>]*>)*>", r"\1...", signature), returns)


def with_types(lines: list[str], defaults: dict[str, Any]) -> list[str]:
    """Put types and defaults beside the names of attributes; napoleon writes the type below the description."""
    shown: list[str] = []
    head = 0
    for line in lines:
        if found := re.fullmatch(r"\.\. attribute:: (\w+)", line):
            shown.append(line)
            head = len(shown)
            if found[1] in defaults:
                value = repr(defaults[found[1]])
                shown.append(f"   :value: {'...' if value.startswith('<') else value}")  # a function, or a factory
        elif head and line.startswith("   :type: "):
            shown.insert(head, line)
        else:
            shown.append(line)
    return shown


def text_below(name: str, public: object) -> list[str]:
    """Return the documentation of a constant from the module that defines it."""
    for module in [key for key in sys.modules if key.partition(".")[0] in ("limpet", "limpet_core")]:
        if vars(sys.modules[module]).get(name) is public:
            analyzer = ModuleAnalyzer.for_module(module)
            analyzer.analyze()
            if found := analyzer.attr_docs.get(("", name)):
                return list(found)
    return []


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """Find a name of the core, which knows nothing of ``limpet``, under the name that users import."""
    target: str = node.get("reftarget", "")
    if node.get("refdomain") != "py" or target.partition(".")[0] not in limpet.__all__:
        return None
    page, kind = node.get("refdoc", ""), node["reftype"]
    return env.domains.python_domain.resolve_xref(env, page, app.builder, kind, f"limpet.{target}", node, content)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the functions of this file."""
    app.setup_extension("sphinx.ext.napoleon")
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-skip-member", without_values)
    app.connect("autodoc-process-docstring", whole_first_line, priority=100)
    app.connect("autodoc-process-docstring", with_values, priority=900)
    app.connect("autodoc-process-signature", without_objects)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
