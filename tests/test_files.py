"""A file is whole or as it was before."""

import pytest

from transformer.files import whole_file


def test_a_file_takes_its_name_when_all_is_written(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writes", [True, False])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, writes):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with whole_file(path) as unfinished:
            if writes:
                unfinished.write_text("half of the ")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(target)
    with whole_file(link) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
