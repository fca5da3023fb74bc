"""The Transformers + PEFT side, in its best simple configuration.

- Batches are padded to their own longest row, not to the longest of the set.
- Trained weights are fp32 masters under autocast. Frozen ones are stored in bf16, which takes less
  memory and is 9 % faster on short sentences; on 8 x 256 tokens fp32 is 7 % faster, since PEFT's
  adapters read their input in fp32, so `lora_lm` has that (`peer_weights`).
- Attention is PyTorch's fused kernel, AdamW is fused, no cache of keys is kept in training.
"""

import re
from typing import Any

import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

from benchmarks.worker import Clock, Measured, Row, Work, main
from tunewise.device import choose_device

MODULES = {
    "query": "attn.c_attn",
    "out": "attn.c_proj",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
"""Their layer for each of our LoRA targets; c_attn is query, key and value in one."""
LABELS = 5
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def build(work: Work) -> nn.Module:
    """Return the adapted model on its device, with the same numbers as tunewise's."""
    kind = work.config["method"]["kind"]
    in_fp32 = kind == "full" or work.peer_weights == "fp32"
    model = load(work, torch.float32 if in_fp32 else work.dtype)
    if kind == "last_layer":
        model.requires_grad_(False)
        model.score.requires_grad_(True)
    elif kind != "full":
        model = get_peft_model(model, adapter(work))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    copy_initial(model, work)
    return model.to(choose_device()).train()


def load(work: Work, dtype: torch.dtype) -> Any:
    """Return the base model, with a layer over labels if the rows have them."""
    kind, extra = GPT2LMHeadModel, {}
    if work.rows[0].label is not None:
        kind, extra = GPT2ForSequenceClassification, {"num_labels": LABELS}
    return kind.from_pretrained(
        work.config["model"],
        dtype=dtype,
        attn_implementation="sdpa",
        pad_token_id=work.end_of_text,
        **NO_DROPOUT,
        **extra,
    )


def adapter(work: Work) -> LoraConfig | PromptTuningConfig:
    """Return PEFT's settings for our method."""
    method = work.config["method"]
    if method["kind"] == "soft_prompt":
        return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=method["tokens"])
    blocks = {}
    if method["blocks"] != "all":
        count = int(method["blocks"].removeprefix("last-"))
        num_layers = work_layers(work)
        blocks = {"layers_to_transform": list(range(num_layers - count, num_layers))}
        blocks["layers_pattern"] = "h"
    return LoraConfig(
        task_type="CAUSAL_LM" if work.rows[0].label is None else "SEQ_CLS",
        r=method["rank"],
        lora_alpha=method["alpha"],
        target_modules=[MODULES[target] for target in method["targets"] if target in MODULES],
        fan_in_fan_out=True,
        **blocks,
    )


def work_layers(work: Work) -> int:
    """Return how many blocks the model has."""
    return GPT2LMHeadModel.config_class.from_pretrained(work.config["model"]).n_layer


@torch.no_grad()
def copy_initial(model: nn.Module, work: Work) -> None:
    """Start from tunewise's adapter; a fused layer's A is that of our query."""
    if work.config["method"]["kind"] == "full":
        return
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    missing = {name for name, _ in trained}
    for ours, tensor in load_file(work.initial).items():
        pattern = their_name(ours)
        for name, parameter in trained:
            if pattern and re.search(pattern + r"\.weight$", name):
                parameter.copy_(tensor)
                missing.remove(name)
    # B is zero on both sides; its fused shape differs from ours.
    missing = {name for name in missing if "lora_B" not in name}
    assert not missing, f"no initial values for {sorted(missing)}"


def their_name(ours: str) -> str | None:
    """Return a pattern of how Transformers or PEFT calls a parameter; None if it has none."""
    if ours == "token_embedding.prompt":
        return r"prompt_encoder\.default\.embedding"
    if ours == "head.weight":
        return r"\bscore(\.modules_to_save\.default)?"
    _, block, _, layer, matrix = ours.split(".")
    if layer not in MODULES or matrix == "B":
        return None
    return rf"\bh\.{block}\.{MODULES[layer]}\.lora_{matrix}\.default"


def collate(rows: list[Row], work: Work, width: int | None = None) -> dict[str, Tensor]:
    """Return a batch padded on the right to its longest row, or to `width`."""
    width = width or max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), work.end_of_text)  # (B, T)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        mask[index, : len(row.ids)] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if rows[0].label is None:
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, 0] = -100  # given, not predicted: a soft prompt would be asked for it
    else:
        labels = torch.tensor([row.label for row in rows])
    if mask.all():
        del batch["attention_mask"]  # the causal kernel without a mask is the faster one
    return {
        name: tensor.to(choose_device()) for name, tensor in (batch | {"labels": labels}).items()
    }


def steps(work: Work, model: nn.Module, clock: Clock, width: int | None = None) -> list[float]:
    """Make all updates, a lap each, and return their losses."""
    train, device = work.config["train"], choose_device()
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": train["weight_decay"]},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=train["learning_rate"], fused=True)
    losses = []
    for number, chosen in enumerate(work.updates, start=1):
        batch = collate([work.rows[index] for index in chosen], work, width)
        with torch.autocast(device.type, torch.bfloat16, enabled=work.dtype == torch.bfloat16):
            extra = {} if work.config["method"]["kind"] == "soft_prompt" else {"use_cache": False}
            loss = model(**batch, **extra).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, train["clip_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        clock.start() if number == work.warm_up else clock.lap()
    return losses


def updates(work: Work, width: int | None = None) -> Measured:
    """Return the seconds of steady updates."""
    model = build(work)
    clock = Clock(choose_device())
    losses = steps(work, model, clock, width)
    return Measured(clock.laps, clock.processor, losses)


def whole_run(work: Work, width: int | None = None) -> Measured:
    """Return the seconds from the weights on disk to the last update."""
    clock = Clock(choose_device())
    losses = steps(work, build(work), clock, width)
    return Measured([sum(clock.laps)], [sum(clock.processor)], losses)


@torch.inference_mode()
def decode(work: Work) -> Measured:
    """Return the seconds of writing on from all prompts, in one batch padded on the left."""
    model = load(work, work.dtype).to(choose_device()).eval()
    written(model, work, work.rows[:4], 2)
    clock = Clock(choose_device())
    outputs = written(model, work, work.rows, work.new_tokens)
    clock.lap()
    return Measured(clock.laps, clock.processor, outputs=outputs)


def written(
    model: Any, work: Work, rows: list[Row], new_tokens: int, cache: bool = True
) -> list[list[int]]:
    """Return the new ids of each row, up to the end of its text."""
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), work.end_of_text)  # (B, T)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, width - len(row.ids) :] = torch.tensor(row.ids)
        mask[index, width - len(row.ids) :] = 1
    device = choose_device()
    output = model.generate(
        ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=new_tokens,
        do_sample=False,
        use_cache=cache,
    )
    texts = output[:, width:].tolist()
    return [
        text[: text.index(work.end_of_text)] if work.end_of_text in text else text for text in texts
    ]


if __name__ == "__main__":
    main({"updates": updates, "run": whole_run, "decode": decode})
