"""Train a correspondence network on shards.

    python -m training.train training/configs/ave_small.toml --data shards/train --output runs/ave_small
    torchrun --nproc-per-node 8 -m training.train training/configs/l3_flickr.toml --data shards/flickr --output runs/l3

RUN holds the configuration, `log.jsonl`, curves for TensorBoard, the last checkpoint and, at the end,
`weights.safetensors`; with `--validation` also `validation.jsonl` and the weights that were best there. Called again
with the same RUN, it continues from the checkpoint with the data, model and optimizer of an uninterrupted run, also
between two stages of a recipe. SIGTERM ends it cleanly, with a checkpoint.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import torch

from openavc.lines import tell, tell_warnings
from openavc.locks import only_user
from openavc.models.contract import AudioVisualModel
from openavc.named import Named
from openavc.parent import end_with_parent
from openavc.threads import VARIABLE
from openavc.weights import load_model, locate

from . import PARENT, distributed
from .checkpoint import load_checkpoint, save_checkpoint, save_weights, steps_done
from .class_pairs import ClassPairs
from .corpora.shards import Shards
from .loading import check_batch, kill_workers, make_loader, make_pairs
from .pairs import Pairs
from .recipe import PRECISIONS, Recipe, Stage, read_recipe
from .record import Log, Progress, Validation, describe, record_config
from .state import State, check_parts
from .steps import Step, take_step, to_training_mode


def check_run(recipe: Recipe, validation: Path | None = None, start_from: str | Path | None = None) -> None:
    """Raise ValueError unless the recipe works with these processes, held-out shards and initial weights."""
    for stage in recipe.stages:
        check_batch(recipe, stage)
        if stage.optimizer.schedule == "plateau" and not validation:
            raise ValueError(
                "schedule 'plateau' follows the figures of validations: give held-out shards with --validation"
            )
    if recipe.sync_batch_norm and not torch.cuda.is_available():
        raise ValueError("sync_batch_norm works only on CUDA, which isn't available here")
    if recipe.needs_weights and not start_from:
        raise ValueError("this recipe goes on from other weights: give them with --start-from")


def warn_if_cold(recipe: Recipe) -> None:
    """Warn of stages that end while the learning rate is still warming up, which train next to nothing."""
    for stage in recipe.stages:
        warmup, full = stage.optimizer.warmup_steps, stage.optimizer.learning_rate
        if warmup >= stage.steps:
            warnings.warn(
                f"{stage.steps} steps end within the {warmup} of the warm-up: the learning rate reaches at most "
                f"{full * stage.steps / warmup:.2g} of {full:.2g}, and little is learned; "
                "take more steps, or lower warmup_steps in the configuration",
                UserWarning,
                stacklevel=2,
            )


def warn_if_slow(recipe: Recipe, device: torch.device) -> None:
    """Warn of bfloat16 on a processor that has to imitate it: a step of separation_small took 40 times as long."""
    capability = torch.backends.cpu.get_cpu_capability()
    if device.type == "cpu" and recipe.precision == "bf16" and capability == "AVX2":
        warnings.warn(
            f"this processor ({capability}) has no instructions for bf16, and is slow in it: give --precision float32",
            UserWarning,
            stacklevel=2,
        )


class Interrupt:
    """Notes whether any of the processes has received SIGTERM."""

    def __enter__(self) -> Interrupt:
        self.came = False
        self.before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _note(self, *_: object) -> None:
        self.came = True

    def anywhere(self, device: torch.device) -> bool:
        """Whether any process has received SIGTERM; all processes must ask together, and get the same answer."""
        return distributed.mean(torch.tensor(float(self.came), device=device)).item() > 0


def train(
    recipe: Recipe,
    data: list[Path],
    run: Path,
    *,
    validation: Path | None = None,
    start_from: str | Path | None = None,
    stop_after: int | None = None,
    device: str | None = None,
    about: dict | None = None,
) -> int:
    """Train from the run's checkpoint until the schedule ends, `stop_after` steps are done, or SIGTERM arrives.

    Parameters
    ----------
    recipe : Recipe
        As returned by `read_recipe`.
    data : list of Path
        Folders of shards.
    run : Path
        Folder of the run; created if it doesn't exist.
    validation : Path, optional
        Folder of shards to measure on, every `validate_every` steps and at the end.
    start_from : str or Path, optional
        Initial weights, of a network of the same kind or of one that is a part of it: a name or a file, as in
        `openavc.load_model`.
    stop_after : int, optional
        Number of steps, from the start of the run, after which to stop.
    device : str, optional
        By default CUDA if there is one.
    about : dict, optional
        Further entries of the run's configuration.

    Returns
    -------
    steps : int
        Number of steps done since the start of the run.

    Raises
    ------
    ValueError
        If the recipe can't work here, or `run` was started with another recipe or other shards.
    FileNotFoundError
        If `data` holds no shards.
    OSError
        If a shard is damaged, another process trains in `run`, or the disk is full; the checkpoint is as it was.
    FloatingPointError
        If a gradient isn't finite.
    """
    device = distributed.start(device)
    check_run(recipe, validation, start_from)
    if distributed.rank() == 0:
        warn_if_cold(recipe)
        warn_if_slow(recipe, device)
    shards = Shards(*data)
    with alone_in(run):
        state = State(recipe, recipe.stage_at(max(0, steps_done(run) - 1)), device)  # the checkpoint's stage
        first_weights = locate(start_from)[1] if start_from else None
        check_parts(state.model, recipe.fresh, "fresh")
        if first_weights:
            begin_with(state.model, first_weights, recipe.fresh)
        pairs = [make_pairs(recipe, stage, shards, state.model) for stage in recipe.stages]
        parts_of_a_batch = distributed.world_size() * recipe.accumulate
        kept = describe(data, shards, first_weights) | {"parts_of_a_batch": parts_of_a_batch} | (about or {})
        if start_from:
            kept |= {"began_with": Path(start_from).as_posix()}
        if validation and any(stage.optimizer.schedule == "plateau" for stage in recipe.stages):
            kept |= {"validation": Shards(validation).describe()}  # the learning rate depends on it
        record_config(run, recipe.to_json() | kept)
        first = load_checkpoint(run, state.parts())
        validate = Validation(run, validation, state.model, recipe) if validation else None
        if validate and first:
            validate(first)  # if the run was stopped before it had measured
        done = take_stages(recipe, run, state, pairs, first, min(recipe.steps, stop_after or recipe.steps), validate)
        if distributed.rank() == 0:
            save_weights(run / "weights.safetensors", state.model, recipe.model)
        distributed.wait_for_all()
    return done


@contextlib.contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Lock the folder of a run for all processes of this one; all of them raise OSError if another run has it."""
    refused = None
    with contextlib.ExitStack() as stack:
        if distributed.rank() == 0:
            try:
                stack.enter_context(only_user(run))
            except OSError as error:
                refused = error
        if refused := distributed.from_first(refused):
            raise refused
        yield


def take_stages(
    recipe: Recipe,
    run: Path,
    state: State,
    pairs: Sequence[Pairs | ClassPairs],
    first: int,
    last: int,
    validate: Validation | None,
) -> int:
    """Take the steps `first` to `last` of all stages, with log and checkpoints, and return how many are done."""
    done, stopping = first, False
    with Log(run, first) as log, Interrupt() as interrupt, Progress(first, last) as progress:
        for number, stage in enumerate(recipe.stages):
            until = min(stage.last_step, last)
            if done >= until or stopping:
                continue
            if number and done == stage.first_step:
                state.enter(stage)
            steps = stage_steps(recipe, stage, state, pairs[number], done, until, validate)
            for done, shown in steps:
                log.write({"step": done, **shown})
                stopping = interrupt.anywhere(state.device)
                progress.show(done, shown)
                if done % recipe.checkpoint_every == 0 or done == last or stopping:
                    log.flush()
                    if distributed.rank() == 0:
                        save_checkpoint(run, done, state.parts())
                if stopping:
                    break
                if validate:
                    validate(done)
    return done


def stage_steps(
    recipe: Recipe,
    stage: Stage,
    state: State,
    pairs: Pairs | ClassPairs,
    first: int,
    last: int,
    validate: Validation | None,
) -> Iterator[tuple[int, dict[str, float | None]]]:
    """Take the steps `first` to `last` of a stage: how many steps of the recipe are done, and what the log shows."""
    batches = iter(make_loader(recipe, stage, pairs, state.device, first, last))
    step_module = Step(state.model, state.objective, PRECISIONS[recipe.precision])
    module = distributed.parallel(step_module, recipe.sync_batch_norm)
    for step in range(first, last):
        to_training_mode(state.model, stage.frozen)  # validations leave the network in evaluation mode
        figures = validate.figures(stage.first_step, step) if validate else ()
        yield step + 1, take_step(step, recipe, stage, state, module, batches, figures)


def begin_with(model: AudioVisualModel, path: Path, fresh: Sequence[str] = ()) -> None:
    """Load the weights of a file into the model, except those of its fresh parts, or into a part of the model.

    Parts of the file that the model hasn't are left out, such as the sound's of a network that only sees, and told.

    Parameters
    ----------
    model : AudioVisualModel
    path : Path
        Weights of such a network, or of one of the kind of a part of it.
    fresh : sequence of str
        Parts of the model that stay as they are, whatever the file holds for them.

    Raises
    ------
    ValueError
        If the weights belong to another network.
    """
    given = load_model(path, device="cpu")
    prefix = next((f"{name}." for name, part in model.named_modules() if name and type(part) is type(given)), "")
    weights = {f"{prefix}{name}": value for name, value in given.state_dict().items()}
    kept = tuple(f"{name}." for name in fresh)
    own = {name: value for name, value in model.state_dict().items() if name.startswith(kept)}
    if prefix:  # all that isn't of the part is fresh, too
        own |= {name: value for name, value in model.state_dict().items() if not name.startswith(prefix)}
    if not any(name in model.state_dict() and not name.startswith(kept) for name in weights):
        raise ValueError(f"{path} doesn't fit the configuration's [model]: it has nothing of that network")
    left_out = sorted({name.split(".")[0] for name in weights} - {name.split(".")[0] for name in model.state_dict()})
    weights = {name: value for name, value in weights.items() if name.split(".")[0] not in left_out}
    try:
        model.load_state_dict({name: value for name, value in weights.items() if not name.startswith(kept)} | own)
    except RuntimeError as error:
        raise ValueError(
            f"{path} doesn't fit the configuration's [model]: {error} (parts that are to begin anew are named in fresh)"
        ) from None
    if distributed.rank() == 0:
        if fresh:
            tell(f"begins with {path}, except {', '.join(fresh)}, which begins anew")
        if left_out:
            tell(f"leaves out {', '.join(left_out)} of {path}, which the network hasn't")
        _tell_differences(given, model, path)


def _tell_differences(given: AudioVisualModel, model: AudioVisualModel, path: Path) -> None:
    """Tell the options of two networks of one kind that differ; most change what is seen and no weight's shape."""
    if type(given) is type(model) or not set(given.state_dict()).isdisjoint(model.state_dict()):
        for key in sorted(given.architecture.keys() & model.architecture.keys() - {"architecture"}):
            if given.architecture[key] != model.architecture[key]:
                tell(f"{key} was {given.architecture[key]!r} in {path}, and is {model.architecture[key]!r} here")


# -------------------------------------------------------------------------------------------------------- command


@click.command(help=__doc__.split("\n")[0])
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    multiple=True,
    help="Folder of shards; may be given several times.",
)
@click.option("--output", "run", type=Named(file_okay=False, path_type=Path), required=True, help="Folder of the run.")
@click.option("--validation", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Held-out shards.")
@click.option("--start-from", help="Weights to begin with: a name (see `openavc models`) or a file.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Pairs a step, instead of the configuration's.")
@click.option("--steps", type=click.IntRange(min=1), help="Length of the schedule, instead of the configuration's.")
@click.option("--accumulate", type=click.IntRange(min=1), help="Parts a process makes of its share of a batch.")
@click.option("--stop-after", type=click.IntRange(min=1), help="Stop with a checkpoint when so many steps are done.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help="Instead of the configuration's.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    envvar=VARIABLE,
    help=f"Of the CPU; default: {VARIABLE}, or all cores but one.",
)
@click.option("--device", help="cpu, cuda ...; default: CUDA if there is one.")
def main(config, data, run, validation, start_from, stop_after, threads, device, **changes):
    atexit.register(kill_workers)
    tell_warnings()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(PARENT)  # torchrun, which, if killed, leaves its processes behind
    cores = (os.cpu_count() or 2) // distributed.processes_here()
    torch.set_num_threads(threads or max(1, cores - 1))
    try:
        recipe = read_recipe(config, **changes)
        done = train(
            recipe,
            list(data),
            run,
            validation=validation,
            start_from=start_from,
            stop_after=stop_after,
            device=device,
            about={"recipe": config.as_posix()},
        )
    except (ValueError, FileNotFoundError, IsADirectoryError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(str(error).splitlines()[-1]) from None  # before it come the calls of a worker
    except FloatingPointError as error:
        raise click.ClickException(f"{error}; RUN's checkpoint is as it was") from None
    if distributed.rank() == 0:
        click.echo(f"{done} of {recipe.steps} steps done; weights in {run / 'weights.safetensors'}")
    distributed.stop()


if __name__ == "__main__":
    main()
