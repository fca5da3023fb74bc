"""Settings name what is wrong with them, and a union of them knows its kinds."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from tunewise.errors import ConfigError
from tunewise.methods import METHODS, AnyMethod
from tunewise.settings import Settings, union_by_kind, validate
from tunewise.tasks import TASKS, AnyTask


class Circle(Settings):
    kind: Literal["circle"] = "circle"
    radius: float = Field(gt=0)


class Line(Settings):
    kind: Literal["line"] = "line"
    ends: tuple[float, float] = (0.0, 1.0)


AnyShape = Annotated[Line | Circle, Field(discriminator="kind")]


class Drawing(Settings):
    shapes: tuple[AnyShape, ...] = ()
    frame: AnyShape = Line()


def test_the_members_of_a_union_are_known_by_kind_in_their_order() -> None:
    assert list(union_by_kind(AnyShape).items()) == [("line", Line), ("circle", Circle)]
    assert union_by_kind(AnyMethod) == METHODS
    assert union_by_kind(AnyTask) == TASKS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frame": {"kind": "circle", "radius": 0}}, "frame.radius: .*greater than 0 .found 0"),
        ({"frame": {"kind": "circle"}}, "frame.radius: is needed"),
        ({"shapes": [{"kind": "line"}, {"kind": "line", "ends": 1}]}, "shapes.1.ends: a list is"),
        ({"frame": {"kind": "line", "end": [0, 1]}}, "frame: unknown field 'end'; did you mean"),
        ({"shape": []}, "unknown field 'shape'; did you mean 'shapes'"),
        ({"radius": 1}, "unknown field 'radius'; did you mean 'frame.radius'"),
        ({"frame": {"kind": "circle", "radius": True}}, "frame.radius: a number is needed"),
        ({"frame": {"kind": "line", "ends": [1, "2 m"]}}, "frame.ends.1: a number is needed"),
        ({"frame": "kind:line"}, "frame: .*a space is missing after a colon: write kind: line"),
        ({"frame": None}, "frame: .*found null"),
    ],
)
def test_a_wrong_value_is_named_as_the_user_wrote_it(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^drawing.yaml: {message}"):
        validate(Drawing, values, "drawing.yaml")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Line().ends = (1.0, 2.0)  # type: ignore[misc]
