"""Adapters in the format of PEFT (https://github.com/huggingface/peft): read and written.

A folder holds `adapter_config.json` and `adapter_model.safetensors`. Foreign conventions end here:
methods see the layers of our models only. PEFT knows the layers of transformers, some of which hold
several of ours: GPT-2's `c_attn` is query, key and value.
"""
