"""Paths that are given on a command line."""

from __future__ import annotations

from typing import Any

import click


class Named(click.Path):
    """A path, which an empty text isn't, though pathlib takes it for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; exit with a message if its name is empty."""
        return super().convert(value, param, ctx) if str(value) else self.fail("the name is empty", param, ctx)
