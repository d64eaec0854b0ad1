"""Writing a file: whole or not at all, with the mode that it had, and nowhere else."""

import os
import stat
from pathlib import Path

import pytest

from minigpt.errors import MiniGPTError
from minigpt.files import follow_own_link, write_whole

posix = pytest.mark.skipif(os.name == "nt", reason="has no such modes and owners")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_an_existing_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "page.html"
    file.write_text("old", encoding="utf-8")
    file.chmod(mode)
    write_whole(file, "new")
    assert file.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@posix
def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "new", "text")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "half \udcff")
    assert file.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@posix
def test_one_s_own_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert follow_own_link(tmp_path / "link") == tmp_path.resolve() / "file"
    assert follow_own_link(tmp_path / "no link") == tmp_path.resolve() / "no link"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can make another's link")
def test_a_link_that_somebody_else_planted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.lchown(tmp_path / "link", 12345, 12345)
    with pytest.raises(MiniGPTError, match="is a link that somebody else made"):
        follow_own_link(tmp_path / "link")
