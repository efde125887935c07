"""Stacks of every kind of layer: dropout between them, states from batch to batch, truncated backpropagation, resuming."""

import numpy as np
import pytest
from support import assert_same_bits

import numlstm
from numlstm import GRU, LSTM, Bidirectional, CellSpec, Dense, Dropout, Input, Sequential, SimpleRNN, Trainer
from numlstm.optimizers import SGD, Adam
from numlstm.utils import set_random_seed

ONE_WAY = {
    "lstm": LSTM,
    "peephole": lambda units, **more: LSTM(units, variant="peephole", **more),
    "by its parts": lambda units, **more: LSTM(units, variant=CellSpec(output_gate=False), **more),
    "gru": GRU,
    "simple": SimpleRNN,
}
KINDS = {**ONE_WAY, "both directions": lambda units, **more: Bidirectional(GRU(units, **more))}


def _model(kind, dropout=0.0, **options):
    set_random_seed(8)
    lower, upper = (kind(units, return_sequences=True, dropout=dropout, **options) for units in (5, 6))
    return Sequential([Input((None, 3)), lower, Dropout(dropout), upper, Dropout(dropout), Dense(2)], dtype="float64")


def _data(rng, steps=10):
    return rng.standard_normal((4, steps, 3)), rng.standard_normal((4, steps, 2))


@pytest.mark.parametrize("name", ONE_WAY)
def test_batches_carry_states_through_a_stack(rng, name):
    x, _ = _data(rng)
    whole, parts = _model(ONE_WAY[name]), _model(ONE_WAY[name], stateful=True)
    got = [parts.predict(x[:, start : start + 4]) for start in (0, 4, 8)]
    assert_same_bits(np.concatenate(got, axis=1), whole.predict(x))
    parts.reset_states()
    assert_same_bits(parts.predict(x[:, :4]), got[0])


@pytest.mark.parametrize("name", ONE_WAY)
def test_pieces_are_batches_that_carry_states(rng, name):
    x, y = _data(rng)
    cut, by_hand = _model(ONE_WAY[name]), _model(ONE_WAY[name], stateful=True)
    Trainer(cut, SGD(0.1), truncate=4).step(x, y)
    trainer = Trainer(by_hand, SGD(0.1))
    for start in (0, 4, 8):
        trainer.step(x[:, start : start + 4], y[:, start : start + 4])
    assert_same_bits(tuple(cut.get_weights()), tuple(by_hand.get_weights()))


@pytest.mark.usefixtures("all_dealt_out")
@pytest.mark.parametrize("name", KINDS)
def test_training_goes_on_at_the_same_bits_at_any_thread_count(rng, tmp_path, name):
    (x, y), results = _data(rng), []
    for threads, stops in ((1, (4,)), (3, (2, 4))):
        numlstm.set_num_threads(threads)
        for part, epochs in enumerate(stops):
            model = _model(KINDS[name], dropout=0.3, stateful=True)
            trainer = Trainer(model, Adam(0.01), seed=5)
            if part:
                trainer.resume(tmp_path / "checkpoint")
            history = trainer.fit(x, y, batch_size=2, epochs=epochs, shuffle=False, verbose=0)
            trainer.save_checkpoint(tmp_path / "checkpoint")
        results.append(
            (*model.get_weights(), model.predict(x[:2]), *(s for layer in model.layers for s in layer.states or ()))
        )
    assert history.epoch == [2, 3]
    assert_same_bits(*results)


@pytest.mark.parametrize("name", KINDS)
def test_dropout_is_at_work_between_layers_in_training_alone(rng, name):
    x, y = _data(rng)
    with_dropout, without = _model(KINDS[name], dropout=0.3), _model(KINDS[name])
    assert_same_bits(with_dropout.predict(x), without.predict(x))
    losses = [Trainer(model, SGD(0.0), seed=1).step(x, y) for model in (with_dropout, without)]
    assert losses[0] != losses[1]
