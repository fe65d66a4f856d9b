import torch

from pipeline.huggingface.llama import pairs_to_halves


def test_rows_of_each_head_go_from_neighbours_to_halves() -> None:
    rows = torch.arange(12)  # two heads of six
    assert pairs_to_halves(rows, 2).tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_matrices_keep_their_columns() -> None:
    rows = torch.arange(8).view(4, 2)
    assert pairs_to_halves(rows, 1).tolist() == [[0, 1], [4, 5], [2, 3], [6, 7]]
