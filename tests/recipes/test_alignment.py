"""The shares of the classes in soft labels come to be those of the labels."""

import torch

from softiou.recipes.alignment import ClassAlignment, ClassConfidence, label_mass


def test_shift_is_the_ratio_of_the_shares() -> None:
    alignment = ClassAlignment(3, strength=1.0)
    alignment.add_labels(torch.tensor([6, 3, 1]))
    probs = torch.tensor([0.9, 0.09, 0.01]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    shifted = alignment(probs.log(), torch.ones(2, 8, 8, dtype=torch.bool))
    # 0.9 * 6 / 9, 0.09 * 3 / 0.9, 0.01 * 1 / 0.1: the shares of the labels
    torch.testing.assert_close(shifted.softmax(1)[0, :, 0, 0], torch.tensor([0.6, 0.3, 0.1]))


def test_strength_is_an_exponent() -> None:
    alignment = ClassAlignment(2, strength=0.5)
    alignment.add_labels(torch.tensor([1.0, 1.0]))
    logits = torch.tensor([0.8, 0.2]).log().view(1, 2, 1, 1)
    shifted = alignment(logits, torch.ones(1, 1, 1, dtype=torch.bool))
    # 0.8 * (0.5 / 0.8)^0.5 against 0.2 * (0.5 / 0.2)^0.5 is 2 to 1
    torch.testing.assert_close(shifted.softmax(1).flatten(), torch.tensor([2 / 3, 1 / 3]))


def test_cells_outside_of_the_image_and_classes_without_labels_do_not_count() -> None:
    alignment = ClassAlignment(3, strength=1.0)
    alignment.add_labels(torch.tensor([5, 5, 0]))
    logits = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.1, 0.8]]).log().T.view(1, 3, 1, 2)
    inside = torch.tensor([[[True, False]]])
    shift = (alignment(logits, inside) - logits)[0, :, 0, 0]
    torch.testing.assert_close(shift, torch.tensor([1.0, 1.25, 1.0]).log())


def test_nothing_is_shifted_before_there_are_labels() -> None:
    logits = torch.randn(1, 3, 2, 2)
    inside = torch.ones(1, 4, 4, dtype=torch.bool)
    assert ClassAlignment(3, strength=1.0)(logits, inside).equal(logits)


def test_means_forget() -> None:
    alignment = ClassAlignment(2, strength=1.0)
    for _ in range(1000):
        alignment.add_labels(torch.tensor([1.0, 0.0]))
    for _ in range(69):  # the half-life
        alignment.add_labels(torch.tensor([0.0, 1.0]))
    shares = alignment.labels / alignment.labels.sum()
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.5]), atol=2e-3, rtol=0)


def test_classes_have_the_same_mean_confidence() -> None:
    probs = torch.tensor([[0.9, 0.9, 0.7, 0.4, 0.2], [0.1, 0.1, 0.3, 0.6, 0.8]])
    inside = torch.tensor([[[True, True, True, True, False]]])
    weights = ClassConfidence(2)(*probs.view(1, 2, 1, 5).max(1), inside)
    # Of the pixels inside: 2.5 / 3 of class 0, 0.6 of class 1, and 3.1 / 4 of both.
    first, second = (3.1 / 4) / (2.5 / 3), (3.1 / 4) / 0.6
    expected = torch.tensor([0.9 * first, 0.9 * first, 0.7 * first, 0.6 * second, 1.0])
    torch.testing.assert_close(weights.flatten(), expected)


def test_mean_confidences_are_averaged_over_the_steps() -> None:
    one = ClassConfidence(2)
    inside = torch.ones(1, 1, 2, dtype=torch.bool)
    one(*torch.tensor([[0.9, 0.5001], [0.1, 0.4999]]).view(1, 2, 1, 2).max(1), inside)
    one(*torch.tensor([[0.8, 0.4], [0.2, 0.6]]).view(1, 2, 1, 2).max(1), inside)
    torch.testing.assert_close(one.sums, torch.tensor([0.99 * 1.4001 + 0.8, 0.6]))
    torch.testing.assert_close(one.cells, torch.tensor([0.99 * 2 + 1, 1.0]))


def test_the_mass_of_hard_and_of_soft_labels() -> None:
    hard = torch.tensor([[[0, 2, 255], [2, 2, 0]]])
    assert label_mass(hard, 3, 255).tolist() == [2, 0, 3]
    assert label_mass(torch.stack([hard, hard], 1), 3, 255).tolist() == [4, 0, 6]  # annotators
    soft = torch.tensor([[0.25, 1.0, 255.0], [0.75, 0.0, 255.0]]).view(1, 2, 1, 3)
    assert label_mass(soft, 2, 255).tolist() == [1.25, 0.75]
