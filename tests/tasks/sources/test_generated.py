"""What is drawn and said is what the labels claim."""

import numpy as np
import pytest

from tasks.info import INFO
from tasks.sources import SOURCES, reviews, scikit_learn, shapes


@pytest.mark.slow
def test_the_static_facts_are_those_of_the_arrays():
    for name, source in SOURCES.items():
        about, arrays = INFO[name], source.arrays()
        values = arrays["image" if about.kind == "image" else next(iter(arrays))]
        one = values.shape[1:]
        if about.kind == "image":
            one = one if len(one) == 3 else (*one, 1)
            assert values.dtype == np.uint8 and about.top // 2 < values.max() <= about.top
        assert one == about.shape and source.classes == about.classes
        if about.classes:
            assert set(arrays["label"]) == set(range(about.classes))


def test_shapes_are_drawn_as_labelled():
    arrays = shapes.generate()
    covered = arrays["image"] > 95  # background at most 63 + 24, figure at least 128 - 24
    area = covered.sum((1, 2))
    by_figure = {name: area[arrays["label"] == i] for i, name in enumerate(shapes.FIGURES)}
    assert set(by_figure["square"]) == {25, 49, 81}
    assert set(by_figure["frame"]) == {16, 24, 32}
    assert set(by_figure["plus"]) == set(by_figure["diagonal cross"]) == {9, 13, 17}
    assert set(by_figure["bar"]) == {10, 14, 18}
    assert set(by_figure["disc"]) == {13, 29, 49}
    assert np.all(by_figure["ring"] < by_figure["disc"].max()) and by_figure["ring"].min() >= 8


def test_patches_tile_the_photographs():
    arrays = SOURCES["patches"].arrays()
    photograph = scikit_learn._datasets().load_sample_images().images[1]
    second = arrays["image"][1040:]
    np.testing.assert_array_equal(second[0], photograph[:16, :16])
    np.testing.assert_array_equal(second[41], photograph[16:32, 16:32])
    np.testing.assert_array_equal(second[-1], photograph[400:416, 624:640])
    assert arrays["label"][0] == 0 and arrays["label"][1039] == 4
    assert arrays["label"][1040] == 5 and arrays["label"][-1] == 9


def says_good(sentence):
    """The label by other means: the last clause, its judgement, turned by a denial."""
    last = sentence.strip().rstrip(".").replace(" but ", " and ").split(" and ")[-1]
    good = last.split()[-1] in reviews._JUDGEMENTS[1]
    return good != any(f" {denial} " in last for denial in ("not", "never", "hardly", "by no"))


def test_reviews_say_what_they_are_labelled_as():
    arrays = reviews.generate()
    sentences = [row.tobytes().decode("ascii") for row in arrays["text"]]
    assert len(set(sentences)) == len(sentences) == reviews.COUNT
    assert [int(says_good(text)) for text in sentences] == arrays["label"].tolist()
    assert sum(" but " in text for text in sentences) > 1000
    assert any("not" in text for text in sentences)
    assert all(text.rstrip().endswith(".") for text in sentences)
