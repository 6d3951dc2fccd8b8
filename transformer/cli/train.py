"""`transformer train`: train a model from settings into a run folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.cli.custom_code import custom_build, custom_task
from transformer.config import Settings
from transformer.config.checks import require
from transformer.config.command_line import read_settings
from transformer.config.files import SECTIONS
from transformer.config.parser import CommandParser
from transformer.config.recipes import overview
from transformer.kernels.allocator import keep_few_shapes
from transformer.messages import tell

if TYPE_CHECKING:
    from transformer.training.memory import Need

DESCRIPTION = """Train a model from settings. --config is a file or the name of a recipe, such as toyland
(`transformer recipes` prints all names); further --config and --section.key VALUE options override its
settings. The defaults are the paper's base model. --resume needs only --output, because the run's folder
holds the settings.
On SIGTERM, SIGHUP, SIGUSR1 or Ctrl-C, training finishes the current update, saves a checkpoint and ends with
exit code 75; --resume continues from there. --dry-run writes nothing: it measures the largest batch and a few
updates, and estimates how long training would take. With training.parallel fsdp, it instead prints how much
memory each process would need, for several numbers of processes.
Under torchrun (`torchrun --nproc-per-node 4 -m transformer train ...`) all processes train one model."""


def run(arguments: list[str], prog: str) -> int:
    if not arguments:
        tell("\n".join(overview()))
        tell(f"\n{prog}: error: name a recipe, as in: {prog} --config toyland")
        return 2
    settings, options = read_settings(arguments, prog=prog, description=DESCRIPTION, add_options=add_options)
    require_a_choice(settings, options.resume, prog)
    keep_few_shapes()
    from transformer.cli.results import results
    from transformer.processes import rank_and_size
    from transformer.recipe import (
        dry_run,
        plan,
        train,
    )  # slow (torch): not needed for --help or a settings error
    from transformer.training.coordination import ProcessLostError

    build, task = custom_build(options.build), custom_task(options.task)
    if options.dry_run:
        require(not options.resume, "--dry-run starts from scratch; leave out --resume")
        if settings.training.parallel == "fsdp":
            print("\n".join(table_of(plan(settings, build=build, task=task, say=tell))))
            return 0
        found = dry_run(settings, build=build, task=task, say=tell)
        print(f"parameters       {found.parameters:,}")
        print(f"largest batch    {found.largest}")
        peak = "unknown" if found.peak_bytes is None else f"{found.peak_bytes / 2**30:.2f} GiB"
        print(f"peak memory      {peak}")
        print(f"target tokens/s  {found.tokens_per_second:,.0f}")
        print(f"update           {found.seconds_per_update:.3f} s")
        print(f"time to finish   {duration(found.seconds_left)}, {settings.training.max_steps:,} updates")
        return 0
    try:
        folder = train(settings, build=build, task=task, resume=options.resume, say=tell)
    except ProcessLostError:
        return 2
    tell(f"trained model: {folder}")
    if rank_and_size()[0] == 0:
        tell("\n".join(results(folder)))
    return 0


def require_a_choice(settings: Settings, resume: bool, prog: str) -> None:
    """Raise `ValueError` if model, data and training all have their defaults, and no run is resumed.

    Otherwise, a command with a mistyped folder would train the paper's base model on the built-in corpus.
    """
    default = Settings()
    if any(
        getattr(settings, section) != getattr(default, section) for section in (*SECTIONS, "task", "build")
    ):
        return
    is_recorded = Path(settings.output, "config.yaml").exists()
    problem = (
        f"there is no run to resume in {settings.output}"
        if resume
        else "all settings of the model, the data and the training are the defaults"
    )
    require(is_recorded and resume, f"{problem}; start with a recipe, as in: {prog} --config toyland")


def table_of(needs: "list[Need]") -> Iterator[str]:
    """Yield the lines of a table that shows, by number of processes, the memory that each process needs."""
    yield f"parameters       {needs[0].parameters:,}"
    yield "memory of one process, in GiB, without activations:"
    yield "processes   weights, gradients, moments   gathered layers        total"
    for need in needs:
        state, gathered, total = (part / 2**30 for part in (need.state, need.gathered, need.total))
        yield f"{need.processes:9}   {state:27,.2f}   {gathered:15,.2f}   {total:10,.2f}"


def add_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in its folder, if there is one",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="measure memory and speed; write nothing",
    )


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
