"""The group of verbs, and what happens to their errors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from spaces.errors import BudgetUnsatisfiable, InvalidInput, PrunefrontError

__all__ = ["cli", "main"]

FAILED, MISUSED, UNSATISFIABLE, INTERRUPTED = 1, 2, 3, 130

# Imported when they are called: a verb that only reads the database starts without torch.
_VERBS = {
    "search": "search.cli.searching",
    "resume": "search.cli.searching",
    "status": "search.cli.looking",
    "front": "search.cli.fronts",
    "show": "search.cli.looking",
    "compare": "search.cli.looking",
    "confirm": "search.cli.confirming",
    "export": "search.cli.exporting",
    "export-optuna": "search.cli.exporting",
    "evaluate": "search.cli.evaluating",
    "finetune-heads": "search.cli.finetuning",
    "bench": "search.cli.bench",
    "flops": "search.cli.counting",
    "serve": "search.cli.serving",
    "runner": "search.cli.serving",
    "methods": "search.cli.methods",
    "models": "search.cli.models",
    "db": "search.cli.database",
    "doctor": "search.cli.doctor",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(_VERBS[cmd_name]), cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PrunefrontError as error:
            click.echo(f"prunefront: {error}", err=True)
            ctx.exit(_exit_code(error))
        except KeyboardInterrupt:
            click.echo("prunefront: interrupted", err=True)
            ctx.exit(INTERRUPTED)


def _exit_code(error: PrunefrontError) -> int:
    from search.interruption import Interrupted

    if isinstance(error, Interrupted):
        return INTERRUPTED
    if isinstance(error, BudgetUnsatisfiable):
        return UNSATISFIABLE
    return MISUSED if isinstance(error, InvalidInput) else FAILED


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="prunefront", message="%(version)s")
def cli() -> None:
    """Search token-pruning layouts for your vision transformer under a hard GFLOPs budget.

    Results go to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 misused, 3 budget unsatisfiable, 130
    interrupted.

    \b
    Try it without data or weights of your own:
      prunefront search --model shapes_vit_small --data shapes --budget 65% --trials 40 --study first
      prunefront front first --html first.html
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    cli.main(args=None if arguments is None else list(arguments), prog_name="prunefront")


if __name__ == "__main__":
    main(sys.argv[1:])
