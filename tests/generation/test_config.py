"""Settings of decoding that contradict each other are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from tunewise.generation.config import DecodingConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_beams": 2, "temperature": 0.7}, "beam search does not sample"),
        ({"stop": ["x", ""]}, "an empty string would end every output"),
        ({"top_p": 0.0}, "greater than 0"),
        ({"top_k": 0}, "greater than 0"),
        ({"max_new_tokens": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecodingConfig(**values)
