"""Nothing: in place of a dict that is empty nearly always."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, cast

NOTHING: Final = cast("dict[Any, Any]", MappingProxyType({}))
"""An empty dict for reading alone, which all share; to write into it, or to clear it, raises.

An empty dict takes 64 bytes. A client has dozens of them, and a process may have thousands of clients.
"""
