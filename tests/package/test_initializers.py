"""Initialisers: mean, variance and limits of many values, orthogonality, names and errors."""

import numpy as np
import pytest

from numlstm import initializers

SHAPE = (300, 200)
COUNT = SHAPE[0] * SHAPE[1]
GLOROT = 2 / sum(SHAPE)


@pytest.mark.parametrize(
    "initializer, mean, variance, limit",
    [
        (initializers.GlorotUniform(), 0, GLOROT, np.sqrt(3 * GLOROT)),
        (initializers.GlorotNormal(), 0, GLOROT, 2 * np.sqrt(GLOROT) / 0.87962566),  # cut at two deviations, then stretched
        (initializers.RandomUniform(-0.2, 0.6), 0.2, 0.8**2 / 12, 0.6),
        (initializers.RandomUniform(), 0, 0.1**2 / 12, 0.05),
        (initializers.RandomNormal(0.5, 2.0), 0.5, 4, np.inf),
        (initializers.RandomNormal(), 0, 0.05**2, np.inf),
    ],
)
def test_random_values(rng, initializer, mean, variance, limit):
    values = initializer(SHAPE, rng)
    assert values.shape == SHAPE
    assert abs(values.mean() - mean) < 5 * np.sqrt(variance / COUNT)
    assert values.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / COUNT))  # the most that a variance of these scatters
    assert limit == np.inf or 0.99 * limit < np.abs(values).max() <= limit
    same = [initializer((4, 5), np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("shape", [(6, 24), (24, 6), (9, 9), (1, 5)])
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_orthogonal(rng, shape, gain):
    q = initializers.Orthogonal(gain)(shape, rng)
    assert q.shape == shape
    product = q @ q.T if shape[0] <= shape[1] else q.T @ q
    np.testing.assert_allclose(product, gain**2 * np.eye(min(shape)), atol=1e-13)


def test_all_orthogonal_matrices_are_as_likely():
    """A plain QR decomposition gives its first element one sign."""
    signs = [initializers.Orthogonal()((3, 3), np.random.default_rng(seed))[0, 0] > 0 for seed in range(100)]
    assert 20 < sum(signs) < 80


def test_constants(rng):
    assert (initializers.Zeros()((3,), rng) == 0).all() and (initializers.Ones()((3,), rng) == 1).all()
    assert (initializers.Constant(-2)((3, 2), rng) == -2).all()


def test_names_and_descriptions():
    for name, kind in initializers._KNOWN.items():
        made = initializers.get(name)
        assert type(made) is kind
        again = initializers.get({"class": kind.__name__, "config": made.get_config()})
        assert type(again) is kind and again.get_config() == made.get_config()


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda: initializers.get("glorot_unifrom"), ValueError, "did you mean 'glorot_uniform'"),
        (lambda: initializers.get(0.1), TypeError, "initializer must be a name or an instance of Initializer, not float"),
        (lambda: initializers.RandomUniform(1, 0), ValueError, "minval must be at most maxval"),
        (lambda: initializers.RandomNormal(stddev=-1), ValueError, "stddev must be at least 0"),
        (lambda: initializers.Initializer()((2,), None), NotImplementedError, "define __call__"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()
