"""Selectivity of single units of the towers, without the other modality (L3 paper, section 4.3).

A unit is a channel of a tower's last map; its activation is the map's maximum (pool4). A moment is a clip of frames and
the sound around it; units are ranked by the moments that excite them most, at most one from each video.
"""

from __future__ import annotations

from pathlib import Path

import click

from openavc.inference.arguments import get_model
from openavc.models.contract import AudioVisualModel
from openavc.named import Named

from ..corpora.shards import Shards
from .datasets.unit_moments import Moments, choose_moments
from .metrics.selectivity import chance_nmi, class_units, cluster_nmi, embed_2d, rank_units
from .metrics.unit_maps import activations
from .networks.capabilities import check_towers
from .networks.untrained import untrained
from .reporting import published
from .reporting.options import shared_options
from .reporting.report import print_published, write_report
from .reporting.tables import table
from .reporting.unit_pictures import draw_scatter, draw_units

CLUSTERS = 64  # perhaps not the paper's number


@click.command()
@shared_options
@click.option("--output", type=Named(file_okay=False, path_type=Path), required=True, help="Folder of pictures.")
@click.option("--per-clip", type=click.IntRange(min=1), default=10, show_default=True, help="Moments a clip.")
@click.option("--count", type=click.IntRange(min=1), default=8, show_default=True, help="Units shown of each tower.")
@click.option("--clusters", type=click.IntRange(min=2), default=CLUSTERS, show_default=True, help="Of k-means.")
def units(
    model: str,
    data: Path,
    seed: int,
    json_path: Path | None,
    output: Path,
    per_clip: int,
    count: int,
    clusters: int,
) -> None:
    """What single units answer to: top moments, heatmaps, t-SNE, clusters against labels, on a folder of shards."""
    network = get_model(model)
    check_towers(network)
    moments = choose_moments(Shards(data), network, per_clip)
    output.mkdir(parents=True, exist_ok=True)
    trained = _figures(network, moments, clusters, seed, output, count)
    blank = _figures(untrained(network, seed), moments, clusters, seed)
    classes, videos = len(set(moments.labels)), len(set(moments.videos))
    rows = {
        key: {
            network.name: f"{trained[key]:.3g}",
            "untrained": f"{blank[key]:.3g}",
            "of": str(classes) if key.endswith("class units") else "1",
        }
        for key in trained
    }
    click.echo(table(f"units, {len(moments)} moments, {videos} videos", rows))
    click.echo(
        "Class units: labels with a unit whose 5 strongest moments, of 5 videos, are all theirs (ours; the paper's "
        f"criterion is unsure). {clusters} clusters of k-means (the paper's number is unsure), {classes} labels."
    )
    write_report(f"units ({data.name})", trained, json_path, untrained=blank, moments=len(moments), classes=classes)
    print_published(published.UNITS, "Those are on Kinetics-Sounds (34 classes, one moment of each video): other data.")


def _figures(
    model: AudioVisualModel, moments: Moments, clusters: int, seed: int, output: Path | None = None, count: int = 0
) -> dict[str, float]:
    """Measure both towers, and draw `count` units of each into the folder `output`, if given."""
    figures: dict[str, float] = {}
    for modality in ("image", "audio"):
        activation = activations(model, modality, moments)
        ranked = rank_units(activation, moments.labels, moments.videos)
        nmi, assigned = cluster_nmi(activation, moments.labels, clusters, seed)
        figures[f"{modality} NMI"] = nmi
        figures[f"{modality} NMI, labels shuffled"] = chance_nmi(assigned, moments.labels, moments.videos, seed)
        figures[f"{modality} class units"] = float(len(class_units(ranked)))
        if output:
            draw_units(output / f"{modality}_units.png", model, modality, moments, ranked[:count])
            title = f"{model.name}, {modality}, t-SNE of {activation.shape[1]} units"
            draw_scatter(output / f"{modality}_tsne.png", embed_2d(activation, seed), moments.labels, title)
    return figures
