"""The protocols' splits, against the published lists."""

import pytest

from datasets.scenes import splits

LLFF = {  # scene: (views, train at 3, at 6, at 9)
    "fern": (20, [1, 10, 19], [1, 4, 7, 12, 15, 19], [1, 3, 5, 7, 10, 12, 14, 17, 19]),
    "flower": (34, [1, 17, 33], [1, 7, 13, 20, 26, 33], [1, 5, 9, 12, 17, 21, 25, 28, 33]),
    "fortress": (42, [1, 21, 41], [1, 9, 17, 25, 33, 41], [1, 5, 11, 15, 21, 26, 30, 36, 41]),
    "horns": (62, [1, 30, 61], [1, 13, 25, 37, 49, 61], [1, 9, 15, 23, 30, 38, 46, 53, 61]),
    "leaves": (26, [1, 12, 25], [1, 5, 10, 15, 20, 25], [1, 4, 6, 10, 12, 15, 19, 21, 25]),
    "orchids": (25, [1, 12, 23], [1, 5, 10, 14, 19, 23], [1, 3, 6, 10, 12, 14, 18, 21, 23]),
    "room": (41, [1, 20, 39], [1, 9, 17, 23, 31, 39], [1, 5, 10, 15, 20, 25, 30, 35, 39]),
    "trex": (55, [1, 28, 54], [1, 11, 22, 33, 44, 54], [1, 7, 14, 21, 28, 34, 41, 47, 54]),
}


@pytest.mark.parametrize("scene", LLFF)
def test_llff_rule_gives_the_published_views(scene: str) -> None:
    count, *published = LLFF[scene]
    for views, expected in zip((3, 6, 9), published, strict=True):
        train, test = splits.every_nth(count, views)
        assert list(train) == expected
        assert list(test) == list(range(0, count, 8))


def test_every_nth_takes_another_step() -> None:
    assert splits.every_nth(10, None, 5) == ((1, 2, 3, 4, 6, 7, 8, 9), (0, 5))


def test_positions_half_way_round_to_even() -> None:
    assert splits.spread(range(12), 3) == (0, 6, 11)  # 5.5 goes to 6
    assert splits.spread(range(10), 3) == (0, 4, 9)  # 4.5 goes to 4


def test_dtu_is_pixelnerfs() -> None:
    train, test = splits.dtu(49, 3)
    assert train == (25, 22, 28)
    assert splits.dtu(49, 9)[0] == (25, 22, 28, 40, 44, 48, 0, 8, 13)
    published = [1, 2, 9, 10, 11, 12, 14, 15, 23, 24, 26, 27, 29, 30, 31, 32, 33, 34, 35, 41, 42, 43, 45, 46, 47]
    assert list(test) == published
    assert not set(splits.DTU_TRAIN) & set(test)


def test_blender8_goes_by_the_number_in_the_name() -> None:
    train = [(i, f"r_{i}") for i in range(100)]
    test = [(100 + i, f"r_{i}") for i in range(200)]
    chosen, tested = splits.blender8(train, test, 8)
    assert chosen == (2, 16, 26, 55, 73, 76, 86, 93)
    assert list(tested) == list(range(100, 300, 8))
    kept = [train[n] for n in (93, 2, 16, 8, 26, 55, 73, 76, 86)]
    renumbered = [(i, stem) for i, (_, stem) in enumerate(kept)]
    assert splits.blender8(renumbered, test, None)[0] == (1, 2, 4, 5, 6, 7, 8, 0)


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (lambda: splits.every_nth(10, 9), "9 training views were asked for, of 8"),
        (lambda: splits.every_nth(10, 0), "0 training views"),
        (lambda: splits.every_nth(10, 3, 1), "choose 2 or more"),
        (lambda: splits.dtu(48, 3), "49 views"),
        (lambda: splits.dtu(49, 10), "1 to 9"),
        (lambda: splits.blender8([(0, "r_2")], [], 8), "r_16, r_26"),
        (lambda: splits.blender8([(i, f"r_{i}") for i in range(100)], [(100, "r_1")], 8), "every 8th"),
        (lambda: splits.blender8([], [], 3), "not 3"),
        (lambda: splits.expect_split_name("lff"), "llff, dtu, blender8, every_nth"),
    ],
)
def test_impossible_splits_say_why(split, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        split()
