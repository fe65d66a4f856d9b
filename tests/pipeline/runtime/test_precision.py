import pytest
import torch

from gpt.model import GPT, GPTShape
from pipeline.config.training_sections import PretrainSection
from pipeline.runtime import precision
from pipeline.runtime.precision import autocast_for, has_bf16_units
from pipeline.training.fit import prepare_model
from pipeline.training.muon import Muon
from pipeline.training.optimizers import optimizer_of

SHAPE = GPTShape(vocab_size=17, layers=1, width=32, heads=2, context=8)
TOKENS = torch.arange(9).unsqueeze(0)


def loss_and_model(dtype: str) -> tuple[torch.Tensor, GPT]:
    model, section = GPT(SHAPE).initialize(1), PretrainSection(dtype=dtype, optimizer="muon", zero=0)
    prepare_model(model, section, "cpu")
    optimizer = optimizer_of(model, section)
    optimizer.param_groups[0]["lr"] = 0.1
    nats, _ = model(TOKENS[:, :-1], TOKENS[:, 1:])
    nats.backward()
    optimizer.step()
    return nats.detach(), model


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """Pretends that the processor has bf16 units or not: without them PyTorch emulates bf16, to the same end."""
    monkeypatch.setattr(precision, "has_bf16_units", lambda device: request.param)
    return bool(request.param)


@pytest.mark.parametrize("units", [True, False], indirect=True)
def test_mixed_rounds_products_only_where_there_are_units_for_it(units: bool) -> None:
    (wide, _), (mixed, model) = loss_and_model("fp32"), loss_and_model("mixed")
    assert wide.dtype == mixed.dtype == torch.float32
    assert mixed == pytest.approx(float(wide), rel=1e-2)
    assert (mixed != wide) == units
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("units", [True], indirect=True)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_only_mixed_touches_products(units: bool, dtype: str) -> None:
    matrix = torch.ones(2, 2)
    with autocast_for(dtype, "cpu"):
        assert (matrix @ matrix).dtype == torch.float32
    with autocast_for("mixed", "cpu"):
        assert (matrix @ matrix).dtype == torch.bfloat16


@pytest.mark.parametrize("units", [True], indirect=True)
def test_muon_orthogonalizes_in_the_same_products(units: bool) -> None:
    matrix = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    moved = {}
    for dtype in ("fp32", "mixed"):
        parameter = torch.nn.Parameter(torch.zeros(32, 16))
        parameter.grad = matrix.clone()
        Muon([{"params": [parameter], "muon": True}], {"matrix": (32,)}, dtype, lr=1.0).step()
        moved[dtype] = parameter.detach()
    assert not torch.equal(moved["fp32"], moved["mixed"])
    assert torch.cosine_similarity(moved["fp32"].flatten(), moved["mixed"].flatten(), dim=0) > 0.999


def test_units_are_those_that_the_processor_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ({"amx_bf16": True}, {"avx512_bf16": True}, {"bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda named=named: named)
        assert has_bf16_units("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    assert not has_bf16_units("cpu")
