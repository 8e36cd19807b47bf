"""Localisation of sound (Objects that Sound, section 4.2; Multisensory): does the map point at the source?"""

from __future__ import annotations

from pathlib import Path

import click

from openavc.inference.localization import DEFAULT_MODEL, video_localizing_model
from openavc.lines import tell
from openavc.models.contract import Localizes, LocalizesInTime

from .networks.capabilities import check_towers
from .networks.untrained import untrained
from .reporting import published
from .reporting.options import FILE, FOLDER, PATH, json_option, seed_option
from .reporting.report import print_published, write_report
from .reporting.tables import all_tables


@click.command()
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or weights file.")
@click.option("--solo", type=FOLDER, help="Held-out episodes with one kind of monster.")
@click.option("--duo", type=FOLDER, help="Held-out episodes with two.")
@click.option("--side-by-side", "row", type=FOLDER, help="Clips, of which some play side by side and one is heard.")
@click.option("--beside", type=click.IntRange(min=2), default=3, show_default=True, help="Clips side by side.")
@click.option("--pictures", type=click.IntRange(min=1), default=200, show_default=True, help="Of clips side by side.")
@click.option("--boxes", type=PATH, help="vggss.json, or Flickr-SoundNet's XML.")
@click.option("--videos", type=FOLDER, help="With FILE.mp4, or FILE.jpg and FILE.wav, of each annotation.")
@click.option("--names", type=FILE, help="CSV of those to take.")
@click.option("--per-clip", type=click.IntRange(min=1), default=5, show_default=True, help="Pictures an episode.")
@click.option("--windows", type=click.IntRange(min=1), default=1, show_default=True, help="Of an episode, a sound.")
@click.option("--untrained-seeds", type=click.IntRange(min=1), default=3, show_default=True)
@seed_option
@json_option
def localization(
    model: str,
    solo: Path | None,
    duo: Path | None,
    row: Path | None,
    beside: int,
    pictures: int,
    boxes: Path | None,
    videos: Path | None,
    names: Path | None,
    per_clip: int,
    windows: int,
    untrained_seeds: int,
    seed: int,
    json_path: Path | None,
) -> None:
    """Does the map point at what sounds? --solo and --duo: rendered monsters; --boxes and --videos: natural videos.

    For a network that fuses clips with their sound, --solo alone, episodes of as many frames a second as it takes, or
    --side-by-side.
    """
    network = video_localizing_model(model)
    if isinstance(network, LocalizesInTime):
        if (solo is None) == (row is None) or duo or boxes or videos:
            raise click.UsageError(f"{network.name} fuses clips with their sound: give --solo or --side-by-side alone")
        _clips(network, solo, row, beside, pictures, per_clip, untrained_seeds, seed, json_path)
        return
    if row:
        raise click.UsageError(f"--side-by-side is for networks that fuse clips with their sound, not {network.name}")
    if (solo is None, boxes is None) != (duo is None, videos is None) or (solo is None) == (boxes is None):
        raise click.UsageError("give both --solo and --duo, or both --boxes and --videos")
    check_towers(network)  # for the maps of saliency
    fresh = [untrained(network, seed + k) for k in range(untrained_seeds)]
    if solo and duo:
        _rendered_boxes(network, fresh, solo, duo, per_clip, windows, seed, json_path)
        note = "Those are on natural videos, with other boxes: ours, of rendered monsters, can't be compared."
    else:
        _annotated_boxes(network, fresh[0], boxes, videos, names, seed, json_path)
        note = "Those hear 3 s or more of each clip and learned from natural videos; ours hears one window."
    print_published(published.LOCALIZATION, note)


def _rendered_boxes(
    model: Localizes,
    fresh: list[Localizes],
    solo: Path,
    duo: Path,
    per_clip: int,
    windows: int,
    seed: int,
    json_path: Path | None,
) -> None:
    from ..corpora.shards import Shards
    from .datasets.encounters import read_encounters
    from .metrics.solo_duo import measure

    encounters = read_encounters(model, Shards(solo), Shards(duo), per_clip, windows, seed)
    report = measure(model, fresh, encounters, seed)
    click.echo(all_tables(report.tables))
    click.echo(f"\nuntrained: {len(fresh)} seeds, BatchNorm's statistics from the pictures and their sounds")
    click.echo("intervals: 95 %, by drawing whole levels anew")
    write_report("localisation", report.figures, json_path, tables=report.tables)


def _clips(
    model: LocalizesInTime,
    solo: Path | None,
    row: Path | None,
    beside: int,
    pictures: int,
    per_clip: int,
    untrained_seeds: int,
    seed: int,
    json_path: Path | None,
) -> None:
    from ..corpora.shards import Shards
    from .datasets.side_by_side import Rows
    from .metrics import side_by_side, solo_in_time

    fresh = [untrained(model, seed + k) for k in range(untrained_seeds)]
    if solo:
        report, drawn, kind = solo_in_time.measure(model, fresh, Shards(solo), per_clip, seed), "levels", "in time"
    else:
        shards = Shards(row)
        report = side_by_side.measure(model, fresh, Rows(model, shards, beside, pictures, seed), seed)
        drawn, kind = "videos", row.name
    click.echo(all_tables(report.tables))
    click.echo(f"\nuntrained: {len(fresh)} seeds, BatchNorm's statistics from some of the clips")
    click.echo(f"intervals: 95 %, by drawing whole {drawn} anew")
    write_report(f"localisation {kind}", report.figures, json_path, tables=report.tables)


def _annotated_boxes(
    model: Localizes,
    fresh: Localizes,
    boxes: Path,
    videos: Path,
    names: Path | None,
    seed: int,
    json_path: Path | None,
) -> None:
    from .datasets.sound_boxes import read_annotations
    from .metrics.annotated import measure

    annotations = read_annotations(boxes, names)
    report, failures = measure(model, fresh, annotations, videos, seed)
    click.echo(
        f"{boxes.name}, {len(annotations) - len(failures)} of {len(annotations)} clips\n\n{all_tables(report.tables)}"
    )
    missing = [name for name, reason in failures.items() if reason == "missing"]
    for name, reason in failures.items():
        if reason != "missing":
            tell(f"left out: {name}: {reason}")
    if missing:
        some = ", ".join(missing[:3])
        click.echo(f"left out: {len(missing)} clips that aren't in {videos} ({some} ...; all in --json)", err=True)
    write_report(f"localisation ({boxes.stem})", report.figures, json_path, tables=report.tables, left_out=failures)
