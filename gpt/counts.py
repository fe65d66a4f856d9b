"""What a shape costs, without building it: parameters, arithmetic, cache memory."""

from __future__ import annotations

from gpt.shape import GPTShape


def num_parameters(shape: GPTShape, embeddings: bool = True) -> int:
    """Parameters of `GPT(shape)`, a tied head counted once; without the embedding tables on request."""
    vectors = shape.layers * _block_vectors(shape) + _norm(shape)
    if not shape.tie_embeddings and shape.bias:
        vectors += shape.vocab_size
    head = 0 if shape.tie_embeddings else shape.vocab_size * shape.width
    return shape.layers * _block_matrices(shape) + vectors + head + (_tables(shape) if embeddings else 0)


def flops_per_token(shape: GPTShape) -> float:
    """Floating-point operations to train on one token: forward once, backward twice as much.

    A matrix of n entries costs 2 n forward; embedding look-ups cost none, the head does, tied or not. Attention adds
    4 C per key that a query sees, on average (context + 1) / 2 of them. This is the count of PaLM (Chowdhery et al.
    2022, appendix B: 6 N + 12 L H Q T) with its attention term halved, since a causal model needs half the scores.
    """
    matrices = shape.layers * _block_matrices(shape) + shape.vocab_size * shape.width
    keys = (shape.context + 1) / 2
    return 3 * (2 * matrices + shape.layers * 4 * shape.width * keys)


def cache_bytes(shape: GPTShape, batch: int, bytes_per_value: int = 4) -> int:
    """Memory of the key-value cache that sampling `batch` texts at once needs."""
    keys = shape.layers * batch * shape.key_value_heads * shape.context * shape.head_width
    return 2 * keys * bytes_per_value


def _block_matrices(shape: GPTShape) -> int:
    qkv = shape.width * _qkv_width(shape)
    feed_forward = (3 if shape.activation == "swiglu" else 2) * shape.width * shape.hidden_width
    return qkv + shape.width**2 + feed_forward


def _block_vectors(shape: GPTShape) -> int:
    up = (2 if shape.activation == "swiglu" else 1) * shape.hidden_width
    biases = shape.width + up + shape.width if shape.bias else 0
    mix = 2 if shape.residual_scalars else 0
    return 2 * _norm(shape) + biases + (_qkv_width(shape) if shape.biased_qkv else 0) + mix


def _qkv_width(shape: GPTShape) -> int:
    return (shape.heads + 2 * shape.key_value_heads) * shape.head_width


def _norm(shape: GPTShape) -> int:
    return shape.width * (2 if shape.norm == "layernorm" and shape.bias else 1)


def _tables(shape: GPTShape) -> int:
    positions = shape.context if shape.position == "learned" else 0
    values = sum(shape.embeds_values(layer) for layer in range(shape.layers))
    value_width = shape.key_value_heads * shape.head_width
    return (shape.vocab_size + positions) * shape.width + values * shape.vocab_size * value_width
