"""Optimisers: 50 steps against the formulas in plain float64 NumPy; schedules against theirs."""

import math

import numpy as np
import pytest
from support import assert_same_bits

import numlstm
from numlstm import backend, optimizers
from numlstm.optimizers import SGD, Adam, AdamW, RMSprop, schedules

STEPS = 50


def _sgd(p, gradients, rate):
    for g in gradients:
        p = p - rate * g
    return p


def _momentum(p, gradients, rate, momentum, nesterov):
    v = np.zeros_like(p)
    for g in gradients:
        v = momentum * v - rate * g
        p = p + (momentum * v - rate * g if nesterov else v)
    return p


def _rmsprop(p, gradients, rate, rho, epsilon):
    s = np.zeros_like(p)
    for g in gradients:
        s = rho * s + (1 - rho) * g**2
        p = p - rate * g / np.sqrt(s + epsilon)
    return p


def _adam(p, gradients, rate, beta_1, beta_2, epsilon, decay=0.0):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        p = p - rate * decay * p
        p = p - rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)
    return p


RULES = {
    "sgd": (SGD(0.1), _sgd, (0.1,)),
    "momentum": (SGD(0.05, momentum=0.9), _momentum, (0.05, 0.9, False)),
    "nesterov": (SGD(0.05, momentum=0.9, nesterov=True), _momentum, (0.05, 0.9, True)),
    "rmsprop": (RMSprop(0.01), _rmsprop, (0.01, 0.9, 1e-7)),
    "rmsprop of other numbers": (RMSprop(0.02, rho=0.5, epsilon=1e-3), _rmsprop, (0.02, 0.5, 1e-3)),
    "adam": (Adam(0.01), _adam, (0.01, 0.9, 0.999, 1e-7)),
    "adam of other numbers": (Adam(0.02, 0.8, 0.99, 1e-3), _adam, (0.02, 0.8, 0.99, 1e-3)),
    "adamw": (AdamW(0.01), _adam, (0.01, 0.9, 0.999, 1e-7, 0.004)),
    "adamw of other numbers": (AdamW(0.02, 0.1, 0.8, 0.99), _adam, (0.02, 0.8, 0.99, 1e-7, 0.1)),
}


def _moved(optimizer, p, gradients, scale=1.0, bound=0.0):
    """Return parameters after a step for each gradient."""
    p = p.copy()
    updates = backend.Updates([p], backend.SLOTS[type(optimizer.rule(0))], p.dtype)
    for step, g in enumerate(gradients):
        updates.gradient[...] = g.ravel()
        updates.apply(optimizer.rule(step), scale, None, None, bound)
    return p


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", RULES)
def test_fifty_steps(rng, name, dtype):
    optimizer, formula, numbers = RULES[name]
    for size in (1, 7, 37):  # less than a vector of lanes, and more with some left over
        p = rng.standard_normal(size).astype(dtype)
        gradients = rng.standard_normal((STEPS, size)).astype(dtype)
        want = formula(p.astype(np.float64), gradients.astype(np.float64), *numbers)
        # Each step rounds p, of magnitude 1 to 4, a few times.
        np.testing.assert_allclose(_moved(optimizer, p, gradients), want, rtol=0, atol=4 * STEPS * np.finfo(dtype).eps)


@pytest.mark.parametrize("bound", [0.0, 0.3])
def test_gradients_are_scaled_and_then_limited(rng, bound):
    p, gradients = rng.standard_normal(21), rng.standard_normal((1, 21))
    g = np.clip(0.5 * gradients[0], -bound, bound) if bound else 0.5 * gradients[0]
    np.testing.assert_allclose(_moved(SGD(1.0), p, gradients, 0.5, bound), p - g, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_at_any_thread_count(rng, dtype, all_dealt_out):
    p, gradients = rng.standard_normal(30_001).astype(dtype), rng.standard_normal((2, 30_001)).astype(dtype)
    results = []
    for threads in (1, 2, 3, 8):
        numlstm.set_num_threads(threads)
        results.append((_moved(Adam(), p, gradients), np.array(backend.norm(gradients[0]))))
    for several in results[1:]:
        assert_same_bits(results[0], several)
    assert float(results[0][1]) == pytest.approx(np.linalg.norm(gradients[0].astype(np.float64)), rel=1e-6)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("threads", [1, 3])
def test_parameters_move_together_as_each_would_alone(rng, monkeypatch, name, threads):
    """Of sizes that are no whole vectors, so that parts of the work begin within a parameter and at its bounds."""
    monkeypatch.setattr("numlstm.backend.runtime.WORTH_A_THREAD", 1)
    numlstm.set_num_threads(threads)
    optimizer = RULES[name][0]
    parameters = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 7), (1,), (0,), (64,), (5, 33))]
    gradients = [rng.standard_normal((4, p.size)).astype(np.float32) for p in parameters]
    want = [_moved(optimizer, p, g.reshape(4, *p.shape)) for p, g in zip(parameters, gradients, strict=True)]
    updates = backend.Updates(parameters, backend.SLOTS[type(optimizer.rule(0))], np.dtype(np.float32))
    for step in range(4):
        updates.gradient[...] = np.concatenate([g[step] for g in gradients])
        updates.apply(optimizer.rule(step), 1.0, None, None, 0.0)
    assert_same_bits(tuple(parameters), tuple(want))


def test_a_nan_moves_its_own_parameter_alone():
    g = np.zeros((1, 20))
    g[0, 3] = np.nan
    for bound in (0.0, 1.0):
        p = _moved(SGD(0.1), np.ones(20), g, bound=bound)
        assert np.isnan(p[3]) and (np.delete(p, 3) == 1).all()


def test_whole_numbers_in_one_optimizer_leave_those_of_others_as_they_are():
    """Of the same kernel, one after the other: a whole number is another type to a compiler."""
    gradients = np.full((2, 20), 4.0)
    whole, usual = Adam(0.1), Adam(0.1)
    whole.beta_1 = 0
    found = _moved(whole, np.ones(20), gradients, bound=1)
    np.testing.assert_allclose(found, _adam(np.ones(20), np.ones((2, 20)), 0.1, 0, 0.999, 1e-7), rtol=1e-12)
    found = _moved(usual, np.ones(20), gradients, bound=0.5)
    np.testing.assert_allclose(found, _adam(np.ones(20), np.full((2, 20), 0.5), 0.1, 0.9, 0.999, 1e-7), rtol=1e-12)


# --- schedules ---


@pytest.mark.parametrize(
    "schedule, formula",
    [
        (schedules.ExponentialDecay(0.1, 10, 0.5), lambda t: 0.1 * 0.5 ** (t / 10)),
        (schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True), lambda t: 0.1 * 0.5 ** (t // 10)),
        (schedules.PiecewiseConstantDecay([5, 12], [1.0, 0.5, 0.1]), lambda t: 1.0 if t <= 5 else 0.5 if t <= 12 else 0.1),
        (schedules.CosineDecay(0.1, 20, 0.2), lambda t: 0.1 * (0.2 + 0.8 * (1 + math.cos(math.pi * min(t, 20) / 20)) / 2)),
        (
            schedules.CosineDecay(0.1, 20, warmup_target=0.5, warmup_steps=4),
            lambda t: 0.1 + 0.4 * t / 4 if t < 4 else 0.5 * (1 + math.cos(math.pi * min(t - 4, 20) / 20)) / 2,
        ),
    ],
)
def test_schedules(rng, schedule, formula):
    rates = [formula(t) for t in range(30)]
    assert [schedule(t) for t in range(30)] == pytest.approx(rates, rel=1e-12, abs=1e-17)
    again = optimizers.get({"class": "Adam", "config": Adam(schedule).get_config()})
    assert [again.rate(t) for t in range(30)] == [schedule(t) for t in range(30)]
    p, gradients = rng.standard_normal(3), rng.standard_normal((30, 3))
    want = p - (np.array(rates)[:, np.newaxis] * gradients).sum(axis=0)
    np.testing.assert_allclose(_moved(SGD(schedule), p, gradients), want, rtol=1e-12, atol=1e-14)


def test_a_schedule_of_ones_own():
    class Halving(schedules.Schedule):
        def __call__(self, step):
            return 2.0**-step

    assert [SGD(Halving()).rate(step) for step in range(3)] == [1, 0.5, 0.25]
    with pytest.raises(NotImplementedError, match=r"Halved does not say the rate: define __call__\(step\)"):
        SGD(type("Halved", (schedules.Schedule,), {})()).rate(0)


# --- names and errors ---


@pytest.mark.parametrize("name, kind", [("Adam", Adam), ("RMSprop", RMSprop), ("SGD", SGD), ("adamw", AdamW)])
def test_names_and_descriptions(name, kind):
    made = optimizers.get(name)
    assert type(made) is type(optimizers.get(kind)) is kind
    again = optimizers.get({"class": kind.__name__, "config": kind(0.25, clipnorm=2).get_config()})
    assert type(again) is kind and again.learning_rate == 0.25 and again.clipnorm == 2
    made.learning_rate = np.float32(0.5)
    assert made.get_config()["learning_rate"] == 0.5
    assert optimizers.get(made) is made


def test_defaults_are_keras():
    assert SGD().get_config() == {
        "learning_rate": 0.01, "momentum": 0, "nesterov": False, "clipnorm": None, "clipvalue": None, "global_clipnorm": None
    }  # fmt: skip
    assert (RMSprop().learning_rate, RMSprop().rho, RMSprop().epsilon) == (0.001, 0.9, 1e-7)
    assert (Adam().learning_rate, Adam().beta_1, Adam().beta_2, Adam().epsilon) == (0.001, 0.9, 0.999, 1e-7)
    assert AdamW().weight_decay == 0.004
    assert repr(Adam(0.5)) == "Adam(learning_rate=0.5, beta_1=0.9, beta_2=0.999, epsilon=1e-07)"


@pytest.mark.parametrize(
    "make, error, says",
    [
        (
            lambda: optimizers.get("adm"),
            ValueError,
            "'adm' is unknown .did you mean 'adam'.*known are adam, adamw",
        ),
        (lambda: optimizers.get(None), TypeError, "optimizer must be a name or an instance of Optimizer, not NoneType"),
        (lambda: Adam(-1), ValueError, "learning_rate must be at least 0, not -1"),
        (lambda: Adam(float("nan")), ValueError, "learning_rate must be at least 0, not nan"),
        (lambda: Adam("fast"), TypeError, "learning_rate must be a number, not 'fast'"),
        (lambda: Adam(beta_1=1), ValueError, "beta_1 must be at least 0 and below 1, not 1"),
        (lambda: Adam(epsilon=0), ValueError, "epsilon must be positive"),
        (lambda: AdamW(weight_decay=-0.1), ValueError, "weight_decay must be at least 0"),
        (lambda: SGD(momentum=1.5), ValueError, "momentum must be at least 0 and below 1"),
        (lambda: SGD(clipnorm=0), ValueError, "clipnorm must be positive"),
        (lambda: SGD(clipnorm=1, clipvalue=1), ValueError, "only one of clipnorm, clipvalue and global_clipnorm"),
        (lambda: setattr(SGD(), "learning_rate", None), TypeError, "learning_rate must be a number, not None"),
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), ValueError, "decay_steps must be at least 1"),
        (lambda: schedules.PiecewiseConstantDecay([5], [1.0]), ValueError, "values must be one more than boundaries"),
        (lambda: schedules.PiecewiseConstantDecay([5, 2], [1, 2, 3]), ValueError, "boundaries must ascend"),
        (lambda: SGD(lambda step: 0.1), TypeError, "learning_rate must be a number"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()
