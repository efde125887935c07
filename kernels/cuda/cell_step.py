"""One step of a recurrent layer for one sequence, by one thread: see step.py.

States and work lie in arrays (units, N), of which a sequence has column n.
"""

from numlstm.kernels.cells import Cell, own_slots
from numlstm.kernels.norm import EPSILON

from .layer import reader
from .machine import constant, device, fma, load, sqrt, store, store_all
from .norm import products_of
from .scalar import of_type, scalar

_SETTLED = "settled_states_one", "settled_h_one"


@device
def get_column(array, n, k):
    return load(array, k * array.shape[1] + n)


@device
def put_column(array, n, k, value):
    store(array, k * array.shape[1] + n, value)


def recurrent_step(kind: type[Cell], options: bool, get_x, get_y, put_y):
    """Return a device function (cell, state, n, x, y).

    get_x, get_y, put_y : device functions (array, n, k) and (array, n, k, value)
    """
    if kind.second_product or kind.base:
        return _in_turns(kind, options, get_x, put_y)
    return _at_once(kind, options, get_x, get_y, put_y)


def _at_once(kind, options, get_x, get_y, put_y):
    chosen = of_type(kind, options)
    forward, settled_states, settled_h = scalar(kind.forward, **chosen), *map(chosen.get, _SETTLED)
    own, seen, wide = kind.states - kind.h_is_state, kind.seen, 1 + kind.seen
    read_biases, add_x, add_h = reader(kind.slots), _adder(*kind.x_slots, kind.slots), _adder(*kind.h_slots, kind.slots)
    x_count, h_count = kind.x_slots[1], kind.h_slots[1]
    read_states, write_states = _states_reader(own, kind.h_is_state), _states_writer(own - seen)
    add_seen, (show, bring) = _seen_adder(seen, h_count, add_h), _room(seen)

    @device
    def recurrent(cell, state, n, x, y):
        units, inputs = cell.b.shape[1], cell.x.shape[1]
        for unit in range(units):
            sums = read_biases(cell.b, unit, units)
            for k in range(inputs):
                sums = add_x(cell.x, (unit * inputs + k) * x_count, get_x(x, n, k), sums)
            for k in range(units):
                sums = add_h(cell.h, (unit * wide * units + k) * h_count, get_column(state.h, n, k), sums)
            sums = add_seen(cell.h, unit * wide * units, units, state, n, sums)
            before, h = read_states(state, n, unit), get_column(state.h, n, unit)
            _, after, out = forward(cell, unit, sums, before)
            after, out = settled_h(cell, settled_states(cell, before, after), h, out)
            write_states(state, n, unit, after)
            show(state, n, unit, units, after)
            put_y(y, n, unit, out)
        for unit in range(units):  # all that the products see has been read
            put_column(state.h, n, unit, get_y(y, n, unit))
            bring(state, n, unit, units)

    return recurrent


def _in_turns(kind, options, get_x, put_y):
    """Return the step of a cell that needs all sums of a product before it goes on: they are kept in the state's work."""
    two = bool(kind.second_product)
    x_count, h_count = kind.x_slots[1], kind.h_slots[1]
    begin = _biases(own_slots(kind), kind.slots - own_slots(kind))
    add_x, add_h = _adder(*kind.x_slots, kind.slots), _adder(*kind.h_slots, kind.slots)
    add_seen = _seen_adder(kind.seen, h_count, add_h)
    products = products_of(kind)
    normalise, normalise_second = _normaliser(products[:2]), _normaliser(products[2:])
    first, add_second, apply = _first(kind, options), _second_adder(kind), _cell(kind, options, put_y)

    @device
    def in_turns(cell, states, z, n, x, y):
        units, inputs, outputs, wide = cell.b.shape[1], cell.x.shape[1], states.h.shape[0], cell.h.shape[1]
        for unit in range(units):
            sums = begin(cell.b, unit, units)
            for k in range(inputs):
                sums = add_x(cell.x, (unit * inputs + k) * x_count, get_x(x, n, k), sums)
            for k in range(outputs):
                sums = add_h(cell.h, (unit * wide + k) * h_count, get_column(states.h, n, k), sums)
            sums = add_seen(cell.h, unit * wide + outputs - units, units, states, n, sums)
            store_all(z, unit * z.shape[1] + n, units * z.shape[1], sums)
        normalise(cell, z, n)
        for unit in range(units if two else 0):
            first(cell, states, z, n, unit)
        for unit in range(outputs if two else 0):
            add_second(cell, states, z, n, unit)
        normalise_second(cell, z, n)
        for unit in range(outputs):
            apply(cell, states, z, n, unit, y)

    @device
    def with_work(cell, state, n, x, y):
        in_turns(cell, state, state.work.z, n, x, y)

    @device
    def with_products(cell, state, n, x, y):
        in_turns(cell, state.states, state.products, n, x, y)

    return with_work if two else with_products


def _biases(count, zeros):
    """Return a device function (b, unit, units): the tuple of biases of so many slots, and zeros."""
    if zeros == 0:
        return reader(count)
    rest = _biases(count, zeros - 1)
    return device(lambda b, unit, units: (*rest(b, unit, units), constant(load(b, 0), 0)))


def _normaliser(products):
    """Return a device function (cell, z, n) that adds products, normalised and with their gains, to the cell's sums."""
    if not products:
        return device(lambda cell, z, n: None)
    before, (_, first, count, own, _, _) = _normaliser(products[:-1]), products[-1]

    @device
    def normalise(cell, z, n):
        before(cell, z, n)
        row, units = z.shape[1], cell.b.shape[1]
        start, end = first * units, (first + count) * units
        zero = constant(load(z, n), 0)
        total, squares, size = zero, zero, constant(zero, end - start)
        for k in range(start, end):
            total += load(z, k * row + n)
        mean = total / size
        for k in range(start, end):
            off = load(z, k * row + n) - mean
            squares = fma(off, off, squares)
        scale = constant(zero, 1) / sqrt(squares / size + constant(zero, EPSILON))
        for k in range(start, end):
            to = (k - start + own * units) * row + n
            store(z, to, fma(load(cell.b, k), (load(z, k * row + n) - mean) * scale, load(z, to)))

    return normalise


def _first(kind, options):
    """Return a device function (cell, states, z, n, unit) that applies what comes before a second product."""
    if not kind.second_product:
        return device(lambda cell, states, z, n, unit: None)
    chosen, own = of_type(kind, options, kind.h_is_state), kind.states - kind.h_is_state
    function, settled_states = scalar(kind.first, **chosen), chosen["settled_states_one"]
    read_slots, read_states = reader(own_slots(kind)), _states_reader(own, kind.h_is_state)
    write_states = _states_writer(0 if kind.h_is_state else own)

    @device
    def first(cell, states, z, n, unit):
        units, row = cell.b.shape[1], z.shape[1]
        before = read_states(states, n, unit)
        kept, after, u = function(cell, unit, read_slots(z, unit * row + n, units * row), before)
        write_states(states, n, unit, settled_states(cell, before, after))
        store_all(z, unit * row + n, units * row, kept)
        put_column(states.work.u, n, unit, u)

    return first


def _second_adder(kind):
    """Return a device function (cell, states, z, n, unit) that adds the second product to its slot."""
    slot = kind.second_slot

    @device
    def add_second(cell, states, z, n, unit):
        units = cell.b.shape[1]
        at = (slot * units + unit) * z.shape[1] + n
        total = load(z, at)
        for k in range(units):
            total = fma(load(cell.second, unit * units + k), get_column(states.work.u, n, k), total)
        store(z, at, total)

    return add_second if kind.second_product else device(lambda cell, states, z, n, unit: None)


def _cell(kind, options, put_y):
    """Return a device function (cell, states, z, n, unit, y) that applies a cell, of which z holds the sums."""
    stateless, own = bool(kind.second_product) and not kind.h_is_state, kind.states - kind.h_is_state
    chosen = of_type(kind, options, stateless)
    forward, settled_states, settled_h = scalar(kind.forward, **chosen), *map(chosen.get, _SETTLED)
    read_slots, read_states = reader(own_slots(kind)), _states_reader(own, kind.h_is_state)
    write_states = _states_writer(0 if stateless else own)

    @device
    def apply(cell, states, z, n, unit, y):
        units, row = cell.b.shape[1], z.shape[1]
        before, h = read_states(states, n, unit), get_column(states.h, n, unit)
        _, after, out = forward(cell, unit, read_slots(z, unit * row + n, units * row), before)
        after, out = settled_h(cell, settled_states(cell, before, after), h, out)
        write_states(states, n, unit, after)
        put_column(states.h, n, unit, out)
        put_y(y, n, unit, out)

    return apply


def _adder(first, count, slots):
    """Return a device function (weights, at, value, sums): sums with the products of `value` added to some of the slots."""
    if slots == 0:
        return device(lambda weights, at, value, sums: ())
    rest, slot = _adder(first, count, slots - 1), slots - 1
    if not first <= slot < first + count:
        return device(lambda weights, at, value, sums: (*rest(weights, at, value, sums), sums[slot]))
    column = slot - first

    @device
    def add(weights, at, value, sums):
        weight = load(weights, at + column)
        return (*rest(weights, at, value, sums), fma(weight, constant(weight, value), sums[slot]))

    return add


def _seen_adder(seen, count, add):
    """Return a device function (weights, at, units, state, n, sums): sums with the products of the states that are seen.

    weights, at : of a unit; count : of its sums that products are added to; add : an _adder
    """
    if seen == 0:
        return device(lambda weights, at, units, state, n, sums: sums)
    rest, index = _seen_adder(seen - 1, count, add), 1 + seen  # of a state, behind h and the first other

    @device
    def add_seen(weights, at, units, state, n, sums):
        sums = rest(weights, at, units, state, n, sums)
        for k in range(units):
            sums = add(weights, (at + seen * units + k) * count, get_column(state[index], n, k), sums)
        return sums

    return add_seen


def _room(seen):
    """Return device functions that write a unit's states that are seen to the state's room, and bring them from there."""
    if seen == 0:
        return device(lambda state, n, unit, units, after: None), device(lambda state, n, unit, units: None)
    (show_others, bring_others), last = _room(seen - 1), seen - 1

    @device
    def show(state, n, unit, units, after):
        show_others(state, n, unit, units, after)
        store(state.room, (last * units + unit) * state.h.shape[1] + n, after[seen])

    @device
    def bring(state, n, unit, units):
        bring_others(state, n, unit, units)
        room = load(state.room, (last * units + unit) * state.h.shape[1] + n)
        put_column(state[1 + seen], n, unit, room)

    return show, bring


def _states_reader(count, with_h):
    """Return a device function (state, n, unit): the tuple of a unit's own states, with h as the last if it is one."""
    if with_h:
        own = _states_reader(count, False)
        return device(lambda state, n, unit: (*own(state, n, unit), get_column(state.h, n, unit)))
    if count == 0:
        return device(lambda state, n, unit: ())
    rest = _states_reader(count - 1, False)
    return device(lambda state, n, unit: (*rest(state, n, unit), get_column(state[count], n, unit)))


def _states_writer(count):
    """Return a device function (state, n, unit, after) that writes a unit's own states."""
    if count == 0:
        return device(lambda state, n, unit, after: None)
    rest, last = _states_writer(count - 1), count - 1

    @device
    def write(state, n, unit, after):
        rest(state, n, unit, after)
        put_column(state[count], n, unit, after[last])

    return write
