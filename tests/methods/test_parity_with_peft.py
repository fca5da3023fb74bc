"""The same method in PEFT gives the same logits, gradients and trained weights."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor, nn

from tunewise.data.encode import Encoded, encode_texts_whole
from tunewise.data.example import Example
from tunewise.data.packing import Batch, pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.lora import LoRA, LoRALinear
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.models import LanguageModel
from tunewise.models.folder import load_model
from tunewise.models.scoring import summed_loss
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

# PEFT asks transformers by a name that transformers is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

THEIR_LAYERS = {
    "gpt2": {
        "attention.out": "attn.c_proj",
        "feed_forward.up": "mlp.c_fc",
        "feed_forward.down": "mlp.c_proj",
    },
    "gpt_neo": {
        "attention.query": "attn.attention.q_proj",
        "attention.value": "attn.attention.v_proj",
    },
}
"""Our layers and theirs. GPT-2's c_attn is one layer there and three here."""
TARGETS = {
    "gpt2": (("out", "up", "down"), ["c_proj", "c_fc"]),
    "gpt_neo": (("query", "value"), ["q_proj", "v_proj"]),
}


def their_base(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def batch_of(sequences: list[Encoded]) -> Batch:
    (batch,) = pack(sequences, 10_000)
    return batch


def our_logits(model: LanguageModel, sequence: Encoded) -> Tensor:
    batch = batch_of([sequence])
    return model.logits(model.hidden(batch.tokens, batch.positions, batch.segments))


def their_loss(model: Any, sequences: list[Encoded]) -> Tensor:
    """Return the mean over all predicted tokens, each text computed alone."""
    total, count = torch.zeros(()), 0
    for sequence in sequences:
        ids = torch.from_numpy(sequence.ids).long()[None]  # (1, T)
        logits = model(input_ids=ids).logits[0, -ids.shape[1] : -1]  # (T - 1, V)
        total = total + nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        count += ids.shape[1] - 1
    return total / count


def lora_pair(family: str, folder: Path) -> tuple[LanguageModel, Any, dict[str, Tensor]]:
    """Return our model, theirs, and their factors by our names; both updates are the same."""
    ours, theirs = TARGETS[family]
    model = load_model(folder)
    LoRA(rank=3, alpha=5.0, targets=ours).adapt(model, torch.Generator().manual_seed(0))
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=theirs,
        fan_in_fan_out=family == "gpt2",
        task_type="CAUSAL_LM",
    )
    other = peft.get_peft_model(their_base(folder), config).eval()
    their_parameters = dict(other.named_parameters())
    factors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(1)
    for name, layer in model.named_modules():
        if isinstance(layer, LoRALinear):
            _, index, path = name.split(".", 2)
            their_name = THEIR_LAYERS[family][path]
            nn.init.normal_(layer.B, std=0.2, generator=generator)
            for factor in "AB":
                stem = f"base_model.model.transformer.h.{index}.{their_name}"
                parameter = their_parameters.pop(f"{stem}.lora_{factor}.default.weight")
                parameter.data = getattr(layer, factor).detach().clone()
                factors[f"{name}.{factor}"] = parameter
    # Every update of theirs has its counterpart here.
    assert not [name for name in their_parameters if "lora_" in name]
    return model, other, factors


@pytest.mark.parametrize("family", TARGETS)
def test_the_same_lora_gives_the_same_logits_as_in_peft(
    family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model, other, _ = lora_pair(family, folders[family])
    base = load_model(folders[family])
    with torch.no_grad():
        for sequence in texts:
            ours = our_logits(model.eval(), sequence)
            theirs = other(input_ids=torch.from_numpy(sequence.ids).long()[None]).logits[0]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            assert (ours - our_logits(base, sequence)).abs().max() > 0.01


@pytest.mark.parametrize("family", TARGETS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_moves_a_lora_as_it_does_in_peft(
    family: str, optimizer: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model, other, factors = lora_pair(family, folders[family])
    before = {name: factor.detach().clone() for name, factor in factors.items()}
    config = TrainConfig(
        epochs=3,
        batch_size=len(texts),
        optimizer=optimizer,
        learning_rate=0.01,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.01,
        clip_norm=None,
    )
    steps = list(train(model, texts, config, seed=0))

    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    theirs = kinds[optimizer](factors.values(), lr=0.01, weight_decay=0.01)
    for step in steps:
        loss = their_loss(other, texts)
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        theirs.zero_grad()
        loss.backward()
        theirs.step()
    assert len(steps) == 3
    for name, factor in factors.items():
        torch.testing.assert_close(model.get_parameter(name), factor, rtol=1e-4, atol=1e-5)
        assert not torch.equal(factor, before[name]), name


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo"])
def test_the_same_soft_prompt_gives_the_same_logits_and_gradient_as_in_peft(
    family: str, folders: dict[str, Path], tokenizer: Tokenizer
) -> None:
    num_virtual = 4
    model = load_model(folders[family])
    method = SoftPrompt(tokens=num_virtual)
    method.adapt(model, torch.Generator().manual_seed(3), tokenizer)
    prompt = model.get_parameter("token_embedding.prompt")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_virtual)
    other = peft.get_peft_model(their_base(folders[family]), config)
    their_prompt = other.prompt_encoder["default"].embedding.weight
    their_prompt.data = prompt.detach().clone()

    examples = [Example(str(n), "", text) for n, text in enumerate(["a good film", "bad, not"])]
    plain = encode_texts_whole(examples, tokenizer, 30).sequences
    prefix = range(280, 280 + num_virtual)
    prefixed = encode_texts_whole(examples, tokenizer, 30 + num_virtual, prefix).sequences
    with torch.no_grad():
        for ours, theirs in zip(prefixed, plain, strict=True):
            ids = torch.from_numpy(theirs.ids).long()[None]
            expected = other(input_ids=ids).logits[0, num_virtual:]  # of the text's positions
            found = our_logits(model, ours)[num_virtual:]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    batch = batch_of(prefixed)
    hidden = model.hidden(batch.tokens, batch.positions, batch.segments)
    scored = batch.targets >= 0
    (summed_loss(model, hidden[scored], batch.targets[scored]) / batch.num_scored).backward()
    their_loss(other, plain).backward()
    assert prompt.grad is not None
    assert prompt.grad.abs().max() > 1e-3
    torch.testing.assert_close(prompt.grad, their_prompt.grad, rtol=1e-4, atol=1e-6)
