"""What a shape costs, without building the model: its parameters and its arithmetic."""

from __future__ import annotations

from gpt.shape import GPTShape


def num_parameters(shape: GPTShape, embeddings: bool = True) -> int:
    """Parameters of `GPT(shape)`, a tied head counted once; `embeddings=False` leaves the embedding tables out."""
    vectors = shape.layers * _block_vectors(shape) + _norm(shape)
    if not shape.tie_embeddings and shape.bias:
        vectors += shape.vocab_size
    head = 0 if shape.tie_embeddings else shape.vocab_size * shape.width
    return num_hidden_parameters(shape) + vectors + head + (_tables(shape) if embeddings else 0)


def num_hidden_parameters(shape: GPTShape) -> int:
    """Entries of `GPT(shape).hidden_matrices()`."""
    return shape.layers * _block_matrices(shape)


def flops_per_token(shape: GPTShape) -> float:
    """Floating-point operations to train on one token: the forward once, the backward twice as much.

    A matrix of n entries costs 2 n forward. Embedding look-ups cost nothing; the head does, tied or not. Attention adds
    4 C per key that a query sees, and it sees (context + 1) / 2 of them on average. This is the count of PaLM
    (Chowdhery et al. 2022, appendix B: 6 N + 12 L H Q T) with its attention term halved, since a causal model needs
    half the scores.
    """
    matrices = num_hidden_parameters(shape) + shape.vocab_size * shape.width
    keys = (shape.context + 1) / 2
    return 3 * (2 * matrices + shape.layers * 4 * shape.width * keys)


# The rest mirrors the constructors of model.py and attention.py; a test builds every combination and counts it.
def _block_matrices(shape: GPTShape) -> int:
    """Entries of one block's matrices. The output of attention is (C, C)."""
    qkv = shape.width * _qkv_width(shape)
    feed_forward = (3 if shape.activation == "swiglu" else 2) * shape.width * shape.hidden_width
    return qkv + shape.width**2 + feed_forward


def _block_vectors(shape: GPTShape) -> int:
    """Entries of one block's two norms, of its biases and of its residual scalars."""
    up = (2 if shape.activation == "swiglu" else 1) * shape.hidden_width
    biases = shape.width + up + shape.width if shape.bias else 0
    mix = 2 if shape.residual_scalars else 0
    return 2 * _norm(shape) + biases + (_qkv_width(shape) if shape.biased_qkv else 0) + mix


def _qkv_width(shape: GPTShape) -> int:
    return (shape.heads + 2 * shape.key_value_heads) * shape.head_width


def _norm(shape: GPTShape) -> int:
    # Only a layer norm can have a bias beside its weight.
    return shape.width * (2 if shape.norm == "layernorm" and shape.bias else 1)


def _tables(shape: GPTShape) -> int:
    """Entries of the embedding tables: of tokens, of learned positions, of values."""
    positions = shape.context if shape.position == "learned" else 0
    values = sum(shape.embeds_values(layer) for layer in range(shape.layers))
    value_width = shape.key_value_heads * shape.head_width
    return (shape.vocab_size + positions) * shape.width + values * shape.vocab_size * value_width
