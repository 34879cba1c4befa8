"""Steps of any number of examples, chunk by chunk: the loop that runs where no other is faster."""

from __future__ import annotations

from typing import Any, NamedTuple

from optsweep.engine.compiled.inputs import (
    add_input_gradient,
    add_shares,
    list_examples,
    list_users,
    multiply_shares,
)
from optsweep.engine.compiled.jit import compiled, entry
from optsweep.engine.compiled.layers import backward, cross_entropy, forward, rows_of
from optsweep.engine.compiled.memory import vector_width
from optsweep.engine.compiled.team import (
    BLOCK,
    CHUNK,
    HALVES,
    SHARES,
    inputs_of,
    is_stopped,
    meet,
    rows_of_half,
    vectors_of,
)
from optsweep.engine.compiled.updates import (
    adapt,
    adapt_rest,
    measure,
    step_of,
    update,
    update_rest,
)


class Chunk(NamedTuple):
    """Some examples of a batch.

    Attributes:
        num_rows: How many.
        batch_size: Examples of the batch.
        is_first: Whether it is the first chunk of the batch.
        is_last: Whether it is the last one.
        turn: 0 and 1 by turns, from chunk to chunk.
    """

    num_rows: Any
    batch_size: Any
    is_first: Any
    is_last: Any
    turn: Any


@entry
def run_batches(data, steps, model, work, learn):
    """All steps of an epoch of one seed, or a member's part in them; or score the examples.

    That the same code does both saves a quarter of the time that compilation takes.

    Args:
        data: Examples.
        steps: The rule.
        model: Parameters.
        work: The thread's own.
        learn: Whether the steps are taken; else nothing but the losses is computed.

    Returns:
        Summed loss and number of right predictions, each batch as it was when it was trained on;
        those of a team are the sums over its members.
    """
    inputs, rest = model
    num_correct = 0
    num_chunks = 0
    work.losses[:] = 0
    gradients, nothing = work.shared.gradients, inputs.weights[:0]
    for number in range(len(steps.table)):
        begin = number * data.batch_size
        end = min(begin + data.batch_size, len(data.images))
        for start in range(begin, end, CHUNK):
            if is_stopped(work.member):
                return 0.0, 0
            after = min(start + CHUNK, end)
            chunk = Chunk(after - start, end - begin, start == begin, after == end, num_chunks % 2)
            num_chunks += 1
            list_examples(data, start, chunk.num_rows, work, nothing)
            multiply_shares(inputs.weights, chunk.num_rows, work, chunk.turn)
            num_correct += _pass_halves(chunk, rest, work, learn)
            if learn:
                meet(work.member)
                _learn_inputs(data.images, steps, number, inputs, chunk, work)
        if not learn:
            continue
        for i in range(len(rest.gradient)):
            rest.gradient[i] = gradients[0, i] + gradients[1, i]
        if steps.layerwise:
            _adapt_inputs(inputs, steps, number, work)
            adapt_rest(rest, steps, number)
        else:
            update_rest(rest, steps, number)
    return work.losses[0] + work.losses[1], num_correct


@compiled
def _pass_halves(chunk, rest, work, learn):
    """Pass this member's halves of a chunk through the network; add up losses and gradients.

    Returns:
        How many of their predictions were right.
    """
    network, passes = work.network, work.shared.passes
    width, last_layer = network.sizes[1], len(network.sizes) - 2
    num_correct = 0
    for half in range(work.member.rank, HALVES, work.member.size):
        gradient = work.shared.gradients[half]
        if chunk.is_first and learn:
            gradient[:] = 0
        first, after = rows_of_half(half, chunk.num_rows)
        num = after - first
        if num == 0:
            continue
        sums = work.shared.sums[chunk.turn]
        add_shares(sums, first * width, (first + num) * width, passes.outputs)
        forward(first, num, rest.weights, network, passes)
        logits = rows_of(passes.outputs, network, last_layer, first, num)
        slopes = rows_of(passes.deltas, network, last_layer, first, num)
        labels = work.labels[first : first + num]
        scores = cross_entropy(logits, labels, chunk.batch_size, slopes)
        work.losses[half] += scores[0]
        num_correct += scores[1]
        if learn:
            backward(half, first, num, rest.weights, gradient, network, passes)
    return num_correct


@compiled
def _learn_inputs(images, steps, number, inputs, chunk, work):
    """A chunk's gradient of the first layer's weights, and their step if it is the last chunk.

    If the chunk is the whole batch, its gradient is made block by block and never stored; else it
    is added to that of the chunks before.
    """
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    vector, lists, member = vector_width(inputs.weights), work.lists, work.member
    step = step_of(steps, number)
    takes_step = chunk.is_last and not steps.layerwise
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        for block in range(first, last, BLOCK // vector):
            after = min(block + BLOCK // vector, last)
            begin, end = block * vector, min(after * vector, num_inputs)
            if chunk.is_first and takes_step:
                g = work.gradient[: (end - begin) * width]
            else:
                g = inputs.gradient[begin * width : end * width]
            if chunk.is_first:
                g[:] = 0
            list_users(lists, images, chunk.num_rows, block, after)
            add_input_gradient(lists, end - begin, work.shared.passes.deltas, width, g)
            if takes_step:
                update(inputs, begin * width, end * width, g, step)


@compiled
def _adapt_inputs(inputs, steps, number, work):
    """One layer-wise step of the first layer's weights, whose gradient has been summed up."""
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    vector, member, squares = vector_width(inputs.weights), work.member, work.shared.squares
    step, rule = step_of(steps, number), steps.layerwise
    for share in range(member.rank, SHARES, member.size):
        first, last = inputs_of(share, num_inputs, vector)
        begin, end = first * width, last * width
        g = inputs.gradient[begin:end]
        squares[share, 0], squares[share, 1] = measure(inputs, begin, end, g, step, rule)
    meet(member)
    ours, theirs = squares[0, 0], squares[0, 1]
    for share in range(1, SHARES):
        ours += squares[share, 0]
        theirs += squares[share, 1]
    for share in range(member.rank, SHARES, member.size):
        first, last = inputs_of(share, num_inputs, vector)
        begin, end = first * width, last * width
        adapt(inputs, begin, end, inputs.gradient[begin:end], step, rule, ours, theirs)
