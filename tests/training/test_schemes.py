"""The five schemes of AVTS: what they are made of, and the command that trains and compares them."""

import json

import pytest
from click.testing import CliRunner
from test_training import CONFIGS, tiny
from tones import write_tones

from training.evaluate.reporting.published import AVTS_SCHEMES
from training.negatives import Mixture, OtherClip, SameClip
from training.recipe import merge, read_recipe, to_recipe
from training.record import read_lines
from training.schemes import before_schemes, main, schemes

CONFIG = CONFIGS[0].with_name("avts_small_schemes.toml")
HARD = SameClip(gap=0.5)
MIXED = Mixture((OtherClip(), HARD), (0.75, 0.25))


def test_five_schemes_have_the_papers_negatives_and_as_many_steps():
    """AVTS, the table of section 4: epochs 1 to 50 and 51 to 90, or 1 to 90."""
    made = schemes(read_recipe(CONFIG, seed=3))
    assert {name: [(stage.steps, stage.negatives) for stage in recipe.stages] for name, recipe in made.items()} == {
        "single stage, easy": [(110, OtherClip())],
        "single stage, easy and hard": [(110, MIXED)],
        "curriculum, easy": [(60, OtherClip()), (50, OtherClip())],
        "curriculum, easy and hard": [(60, OtherClip()), (50, MIXED)],
        "curriculum, hard": [(60, OtherClip()), (50, HARD)],
    }
    assert {recipe.seed for recipe in made.values()} == {3}
    assert list(made) == [row.method for row in AVTS_SCHEMES]


def test_what_comes_before_the_last_two_stages_is_common_to_all():
    recipe = read_recipe(CONFIG)
    common = before_schemes(recipe)
    assert [(stage.steps, stage.objective["name"]) for stage in common.stages] == [(80, "contrastive")]
    assert common.model == recipe.model
    assert before_schemes(read_recipe(CONFIG.with_name("avts_kinetics.toml"))) is None


def test_a_recipe_without_a_curriculum_makes_no_schemes():
    with pytest.raises(ValueError, match="two stages or more, the last with a mixture of negatives; got 1"):
        schemes(read_recipe(CONFIG.with_name("ave_small.toml")))
    others = [{"kind": "other_clip", "share": 0.5}] * 2
    with pytest.raises(ValueError, match="needs negatives of the same clip, it has"):
        schemes(to_recipe(merge(tiny(CONFIG).to_json(), {"stages": [{"steps": 1}, {"steps": 1, "negatives": others}]})))


@pytest.mark.usefixtures("one_thread")
def test_the_command_trains_each_scheme_once_and_compares_them(tmp_path, monkeypatch):
    for number in range(4):
        write_tones(tmp_path / f"data/{number}.tar", [number], source=str(number))
    tables = merge(tiny(CONFIG).to_json(), {"checkpoint_every": 1, "optimizer": {"warmup_steps": 0}})
    kept = ("negatives", "objective")
    stages = [{"steps": 1} | {key: stage[key] for key in kept if key in stage} for stage in tables["stages"]]
    short = to_recipe(tables | {"stages": stages, "steps": 3}).to_json()
    monkeypatch.setattr("training.schemes.read_recipe", lambda _, seed, precision: to_recipe(short | {"seed": seed}))
    report = tmp_path / "report.json"
    arguments = [CONFIG, "--data", tmp_path / "data", "--held", tmp_path / "data", "--output", tmp_path / "runs"]
    arguments += ["--seeds", 2, "--per-clip", 2, "--threads", 1, "--json", report]
    results = [CliRunner().invoke(main, list(map(str, arguments))) for _ in range(2)]
    assert results[0].exit_code == results[1].exit_code == 0, results[0].output
    assert results[0].stdout == results[1].stdout
    assert "curriculum, easy and hard" in results[0].output and "78.4" in results[0].output
    runs = sorted((tmp_path / "runs").iterdir())
    steps = {run.name: [line["step"] for line in read_lines(run / "log.jsonl")] for run in runs}
    assert steps.pop("common-0") == steps.pop("common-1") == [1]
    assert len(steps) == 5 * 2 and all(taken == [1, 2] for taken in steps.values())
    metrics = json.loads(report.read_text())["metrics"]
    assert len(metrics) == 5 * 3 and metrics[0]["command"].startswith("python -m training.schemes ")
    assert all(0 <= metric["value"] <= 100 for metric in metrics)
