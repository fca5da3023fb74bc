"""Adapters in the format of PEFT (https://github.com/huggingface/peft): read and written."""
