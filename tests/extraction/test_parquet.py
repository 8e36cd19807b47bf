"""Results as Parquet: the rows of an .npz, by whatever reads tables, and treated as carefully as those."""

import json
import sys

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from videos import RATE, noise, write_video

from openavc.cli import main
from openavc.extraction.growing import GrowingArrays

pytestmark = pytest.mark.usefixtures("in_this_process")
pyarrow = pytest.importorskip("pyarrow")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def embed(folder, *options, command="audio", ending="parquet"):
    """Embed the files of a folder into `out` beside it, and return what was told."""
    return run(command, folder, "--output", folder.parent / "out", "--format", ending, *options)


@pytest.fixture
def sounds(tmp_path):
    """Write two sounds."""
    for name, seconds in (("a", 3), ("b", 1.5)):
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "in" / f"{name}.wav", noise(int(8000 * seconds)), 8000)
    return tmp_path / "in"


def read_with_pandas(paths):
    import pandas

    table = pandas.concat([pandas.read_parquet(path) for path in paths])
    return table["source"].tolist(), table["timestamp"].to_numpy(), np.stack(table["embedding"])


def read_with_polars(paths):
    import polars

    table = polars.read_parquet(paths)
    return table["source"].to_list(), table["timestamp"].to_numpy(), table["embedding"].to_numpy()


def read_with_datasets(paths):
    import datasets

    table = datasets.Dataset.from_parquet([str(path) for path in paths]).with_format("numpy")
    return list(table["source"][:]), table["timestamp"][:], table["embedding"][:]


@pytest.mark.parametrize("read", [read_with_pandas, read_with_polars, read_with_datasets])
def test_tables_hold_the_rows_of_arrays(sounds, tmp_path, monkeypatch, read):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for ending in ("npz", "parquet"):
        assert embed(sounds, "--hop-size", 0.5, ending=ending).output.startswith("2 done, 0 skipped, 0 failed")
    sources, timestamps, embedding = read(sorted((tmp_path / "out").glob("*.parquet")))
    arrays = [np.load(tmp_path / "out" / f"{name}.npz") for name in "ab"]
    np.testing.assert_array_equal(timestamps, np.concatenate([array["timestamps"] for array in arrays]))
    np.testing.assert_array_equal(embedding, np.concatenate([array["embedding"] for array in arrays]))
    assert embedding.dtype == np.float32
    lengths = [len(array["timestamps"]) for array in arrays]
    assert sources == [str(sounds / "a.wav")] * lengths[0] + [str(sounds / "b.wav")] * lengths[1]


def test_a_video_has_a_column_for_each_modality_and_the_same_metadata(tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/clip.mkv", np.arange(10) / 5, sound=noise(2 * RATE))
    for ending in ("npz", "parquet"):
        result = embed(tmp_path / "in", "--embedding", "joint", command="video", ending=ending)
        assert result.exit_code == 0, result.output
    table, arrays = pyarrow.parquet.read_table(tmp_path / "out/clip.parquet"), np.load(tmp_path / "out/clip.npz")
    assert table.column_names == ["source", "timestamp", "audio", "image", "loudness"]
    for name in ("audio", "image", "loudness"):
        np.testing.assert_array_equal(np.array(table[name].to_pylist(), arrays[name].dtype), arrays[name])
    assert json.loads(table.schema.metadata[b"openavc"]) == json.loads(str(arrays["metadata"]))


def test_long_results_are_written_in_parts_that_make_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"embedding": rng.random((5000, 300), np.float32), "timestamps": np.arange(5000) / 7}
    with GrowingArrays(tmp_path / "a.parquet") as growing:
        for start in range(0, 5000, 900):
            growing.append({name: array[start : start + 900] for name, array in arrays.items()})
        growing.close_into_result({"source": {"path": "/a.wav"}})
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert pyarrow.parquet.read_metadata(tmp_path / "a.parquet").num_row_groups == 6
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(table["timestamp"].to_numpy(), arrays["timestamps"])
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(flat.reshape(5000, 300), arrays["embedding"])


def test_a_second_run_skips_what_is_whole_and_remakes_what_is_damaged_or_differs(sounds, tmp_path):
    assert embed(sounds).output.startswith("2 done")
    assert embed(sounds).output.startswith("0 done, 2 skipped, 0 failed")
    damaged = tmp_path / "out/a.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (tmp_path / "out/b.parquet").write_bytes(b"")
    assert embed(sounds).output.startswith("2 done")
    assert embed(sounds).output.startswith("0 done, 2 skipped, 0 failed")
    assert embed(sounds, "--hop-size", 0.2).output.startswith("2 done")


def test_a_table_that_is_not_ours_is_never_replaced_unasked(sounds, tmp_path):
    (tmp_path / "out").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"mine": [1, 2]}), tmp_path / "out/a.parquet")
    result = embed(sounds)
    assert result.output.count("isn't a result of openavc") == 1 and "1 done, 0 skipped, 1 failed" in result.output
    assert pyarrow.parquet.read_table(tmp_path / "out/a.parquet").column_names == ["mine"]
    assert embed(sounds, "--overwrite").output.startswith("2 done")


def test_without_pyarrow_the_extra_is_named_before_anything_is_computed(sounds, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    result = embed(sounds)
    assert result.exit_code == 1
    assert 'pip install "openavc[parquet]"' in result.output
    assert not (tmp_path / "out").exists()
