"""The peer of our decoder: Hugging Face `generate` with a Llama of the same size and vocabulary, random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harmonixr_model.infill.config import InfillConfig
from harmonixr_model.nn.block import gated_width


class HuggingFace:
    """A Llama in one number format; the benchmarks time `generate` and `prefill`."""

    def __init__(self, config: InfillConfig, dtype: torch.dtype) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        shape = LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=gated_width(config.width),
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.max_length,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        self.name = f"HF {str(dtype).removeprefix('torch.')}"
        self.model: Any = LlamaForCausalLM(shape).to(dtype).eval()

    @torch.inference_mode()
    def generate(self, prefix_P: Tensor, *, rows: int, tokens: int) -> int:
        """Sample `tokens` tokens for each of `rows` candidates of one prompt; return the number of tokens."""
        prefix_RP = prefix_P.expand(rows, -1)
        out = self.model.generate(
            prefix_RP,
            attention_mask=torch.ones_like(prefix_RP),
            do_sample=True,
            top_p=0.98,
            top_k=0,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
        return (out.shape[1] - prefix_RP.shape[1]) * rows

    @torch.inference_mode()
    def prefill(self, prefix_P: Tensor) -> int:
        """Prefill a prompt, with logits at the last position only; return its length."""
        self.model(prefix_P[None], use_cache=True, logits_to_keep=1)
        return len(prefix_P)


def open_peers(config: InfillConfig) -> list[HuggingFace]:
    """Return the peer in fp32 and bf16; none if `transformers` is not installed."""
    try:
        import transformers
    except ImportError:
        return []
    transformers.logging.set_verbosity_error()
    return [HuggingFace(config, dtype) for dtype in (torch.float32, torch.bfloat16)]
