"""What is drawn how often: groups and their parts by the square root of their sizes; what is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam.errors import ConfigError
from napari_sam.training.data import Pair, Sample, find_pairs
from napari_sam.training.draw import DrawConfig, TrainingSet, held_out
from training.training_scenes import write_pair


def named_pairs(counts):
    """Pairs that exist by name only, so many of each (group, part)."""
    return [
        Pair(Path(f"{group}-{part}-{i}.image.png"), Path("none"), group, part)
        for (group, part), count in counts.items()
        for i in range(count)
    ]


@pytest.fixture
def by_name(monkeypatch):
    """Reading gives a sample with the pair's name and nothing else."""
    nothing = np.zeros((1, 1), np.int32)
    monkeypatch.setattr(
        "napari_sam.training.reading.SampleCache.draw",
        lambda cache, index, rng: Sample(nothing, nothing, cache._pairs[index].image.name),
    )


def plain_draw(pairs, rng):
    """The rule as a plain program: first the group, then its part, then the pair."""
    rng.random()  # generated or not
    groups = list(dict.fromkeys(pair.group for pair in pairs))
    sizes = np.sqrt([sum(pair.group == group for pair in pairs) for group in groups])
    group = groups[rng.choice(len(groups), p=sizes / sizes.sum())]
    members = [pair for pair in pairs if pair.group == group]
    parts = list(dict.fromkeys(pair.subgroup for pair in members))
    sizes = np.sqrt([sum(pair.subgroup == part for pair in members) for part in parts])
    part = parts[rng.choice(len(parts), p=sizes / sizes.sum())]
    chosen = [pair for pair in members if pair.subgroup == part]
    return chosen[rng.integers(len(chosen))].image.name


def test_draws_follow_the_plain_rule(by_name):
    pairs = named_pairs({("a", "x"): 16, ("a", "y"): 1, ("b", ""): 4, ("c", "z"): 2, ("a", "w"): 4})
    draw = TrainingSet(pairs, DrawConfig(generated=0))
    for seed in range(200):
        assert draw(np.random.default_rng(seed))[0].name == plain_draw(pairs, np.random.default_rng(seed))


def test_shares_go_with_the_square_roots(by_name):
    draw = TrainingSet(named_pairs({("a", "x"): 9, ("a", "y"): 1, ("b", ""): 40}), DrawConfig(generated=0))
    rng = np.random.default_rng(0)
    names = [draw(rng)[0].name for _ in range(3000)]
    a = [name for name in names if name.startswith("a")]
    assert len(a) / len(names) == pytest.approx(1 / 3, abs=0.03)
    assert sum(name.startswith("a-x") for name in a) / len(a) == pytest.approx(3 / 4, abs=0.04)


def test_draws_are_the_same_for_the_same_generator(tmp_path):
    write_pair(tmp_path / "x", "a")
    write_pair(tmp_path / "y", "b")
    draw = TrainingSet(find_pairs(tmp_path), DrawConfig(generated=0.3, sparse_groups=("y",)))
    rounds = [[draw(np.random.default_rng(5 + i)) for i in range(8)] for _ in range(2)]
    assert [s.name for s, _ in rounds[0]] == [s.name for s, _ in rounds[1]]
    assert {whole for s, whole in rounds[0] if s.name == "b"} <= {False}
    assert {"a", "b"} & {s.name for s, _ in rounds[0]}


def test_an_unknown_sparse_group_is_refused(tmp_path):
    write_pair(tmp_path / "x")
    with pytest.raises(ConfigError, match="sparse_groups names z; the groups are x"):
        TrainingSet(find_pairs(tmp_path), DrawConfig(sparse_groups=("z",)))


def test_held_out_pairs_are_a_fixed_part_of_all():
    pairs = named_pairs({("a", ""): 10})
    kept, judged = held_out(pairs, DrawConfig(val_share=0.3))
    assert len(judged) == 3
    assert {p.image for p in kept} | {p.image for p in judged} == {p.image for p in pairs}
    assert held_out(pairs, DrawConfig(val_share=0.3)) == (kept, judged)
    assert held_out(pairs, DrawConfig()) == (pairs, [])


def test_holding_out_everything_is_refused():
    with pytest.raises(ConfigError, match=r"val_share = 0.9 of 2 pairs leaves none to train with"):
        held_out(named_pairs({("a", ""): 2}), DrawConfig(val_share=0.9))


REFUSED = {
    "generated": ({"generated": 2}, r"generated must lie in \[0, 1\], got 2"),
    "share": ({"val_share": 1}, r"val_share must lie in \[0, 1\), got 1"),
    "images": ({"val_images": 0}, "val_images must be at least 1, got 0"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        DrawConfig(**settings)
