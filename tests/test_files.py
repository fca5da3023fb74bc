"""Laws of files that are written whole: all of the new one, or the old one untouched."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tunewise.errors import ConfigError
from tunewise.files import temporary_file, write_whole, writing_to_cache, writing_whole

Writing = Callable[[Path], AbstractContextManager[Path]]


@pytest.mark.parametrize("writing", [writing_whole, writing_to_cache])
def test_a_file_is_replaced_at_the_end_of_the_block(writing: Writing, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with writing(path) as temporary:
        assert temporary.parent == tmp_path and temporary.read_text() == ""
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("writing", [writing_whole, writing_to_cache])
def test_a_failure_leaves_the_old_file_and_no_other(
    writing: Writing, error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), writing(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_stopped_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    (tmp_path / "a.txt.part").write_text("half of a longer text than the new one")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_may_write_the_same_file_of_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.txt"
    with writing_to_cache(path) as one:
        with writing_to_cache(path) as other:
            one.write_text("one")
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_a_temporary_file_may_be_moved_or_is_removed(tmp_path: Path) -> None:
    with temporary_file(tmp_path / "a") as temporary:
        temporary.replace(tmp_path / "b")
    with temporary_file(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]


def test_text_that_cannot_be_encoded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.txt", "half a character: \ud800")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.txt"
    with pytest.raises(ConfigError, match="cannot be written: No such file") as caught:
        write_whole(path, "new")
    assert str(caught.value).startswith(str(path))
