"""A head on features: as accurate as its best strength, and as sure as it is right."""

import numpy as np
import pytest

from ml.serving.calibration import fit_temperature, log_loss, softmax
from ml.training.heads import HEAD_STRENGTHS, fit_head, fit_hidden_head


def sample(n: int, seed: int, num_classes: int = 4, spread: float = 1.5):
    """(N, 16) features around a centre per class, which overlap, and their labels."""
    centres = np.random.default_rng(0).normal(size=(num_classes, 16))
    index = np.arange(n) % num_classes
    return (centres[index] + np.random.default_rng(seed).normal(0, spread, (n, 16))).astype(np.float32), index


@pytest.fixture(scope="module")
def examples():
    (train, train_index), (val, val_index) = sample(400, 1), sample(200, 2)
    return train, val, train_index, val_index


@pytest.mark.parametrize("strength", [0.01, 10.0])
def test_it_is_as_sure_as_it_is_right(examples, strength):
    kernel, bias = fit_head(*examples, strengths=(strength,))

    assert fit_temperature(examples[1] @ kernel + bias, examples[3]) == pytest.approx(1.0, abs=0.05)


def test_it_takes_the_strength_with_the_lowest_loss_on_val(examples):
    def loss_of(strengths) -> float:
        kernel, bias = fit_head(*examples, strengths=strengths)
        return log_loss(softmax(examples[1] @ kernel + bias), examples[3])

    alone = [loss_of((strength,)) for strength in HEAD_STRENGTHS]

    assert max(alone) > min(alone) * 1.001
    assert loss_of(HEAD_STRENGTHS) == pytest.approx(min(alone), rel=1e-6)


def test_it_tells_of_each_strength_in_their_order(examples):
    lines = []

    fit_head(*examples, say=lines.append)

    assert [line.split(":")[0] for line in lines] == [f"head with C={strength}" for strength in HEAD_STRENGTHS]


def test_it_fits_a_hidden_layer_to_raw_features(examples):
    train, val, train_index, val_index = examples
    shift = np.linspace(-500, 500, 16, dtype=np.float32)  # far from standardised
    settings = {"units": 32, "dropout": 0.1, "learning_rate": 1e-2, "l2": 1e-5}

    (hidden_kernel, hidden_bias, kernel, bias), figures = fit_hidden_head(
        train * 100 + shift, val * 100 + shift, train_index, val_index, 4, settings
    )

    hidden = np.maximum((val * 100 + shift) @ hidden_kernel + hidden_bias, 0)
    linear_kernel, linear_bias = fit_head(*examples)
    top1 = ((hidden @ kernel + bias).argmax(axis=1) == val_index).mean()
    assert figures["val_accuracy"] == pytest.approx(top1)
    assert top1 > ((val @ linear_kernel + linear_bias).argmax(axis=1) == val_index).mean() - 0.05


def test_it_fits_a_head_for_breeds_that_train_lacks(examples):
    train, val, train_index, val_index = examples
    settings = {"units": 8, "dropout": 0.1, "learning_rate": 1e-2, "l2": 1e-5}
    few = train_index < 3

    weights, _ = fit_hidden_head(train[few], val, train_index[few], val_index, 4, settings, epochs=1)

    assert weights[-1].shape == (4,)
