"""Names that moved: they still work, and say where they are now."""

import pytest

import softiou.data
from softiou import checking, soft_labels
from softiou._moved import moved_names


def test_a_moved_name_is_the_new_one_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"softiou\.data\.check_dataset is now softiou\.ch"):
        assert softiou.data.check_dataset is checking.check_dataset
    with pytest.warns(DeprecationWarning, match=r"is now softiou\.soft_labels\.SoftLabelStore"):
        assert softiou.data.SoftLabelStore is soft_labels.SoftLabelStore


def test_a_renamed_name_is_the_new_one() -> None:
    find = moved_names("old", {"softiou.soft_labels": "Store:SoftLabelStore"})
    with pytest.warns(DeprecationWarning, match=r"old\.Store is now softiou\.soft_labels\.SoftLab"):
        assert find("Store") is soft_labels.SoftLabelStore


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'softiou\.data' has no attribute 'nothing'"):
        softiou.data.nothing  # noqa: B018
