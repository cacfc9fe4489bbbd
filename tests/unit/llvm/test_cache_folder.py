"""Who else may write to the cache of compiled kernels: nobody."""

import os
import stat

import pytest
import tessel
from tessel.compiler.backends.llvm.base.cache import ObjectCache
from tessel.compiler.ir.builder import Builder
from tessel.compiler.system.files import not_private, user_cache


def model():
    b = Builder()
    b.output("y", b.relu(b.input("x", "f32[N,64]")))
    return b.graph


def test_a_cache_is_made_for_its_user_alone(tmp_path):
    cache = ObjectCache(tmp_path / "a" / "b")
    cache.put("key", b"data")
    assert cache.get("key") == b"data" and cache.note is None
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o775, 0o702])
def test_a_cache_that_others_may_write_to_is_not_used(mode, tmp_path):
    folder = tmp_path / "cache"
    ObjectCache(folder).put("key", b"data")
    folder.chmod(mode)
    exe = tessel.compile(model(), threads=1, cache=folder)
    assert any("is not used: others may write to it" in n for n in exe.notes)
    assert ObjectCache(folder).get("key") is None
    assert len(list(folder.iterdir())) == 1


def test_a_folder_below_one_that_others_may_write_to_is_not_private(tmp_path):
    (tmp_path / "open" / "own").mkdir(parents=True, mode=0o700)
    assert not_private(tmp_path / "open" / "own") is None
    (tmp_path / "open").chmod(0o777)
    assert "others may write" in not_private(tmp_path / "open" / "own")
    (tmp_path / "open").chmod(0o1777)  # sticky: nobody can rename what is another's
    assert not_private(tmp_path / "open" / "own") is None


def test_entries_and_folders_of_other_users_are_not_used(tmp_path, monkeypatch):
    cache = ObjectCache(tmp_path / "cache")
    cache.put("key", b"data")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    owner = (tmp_path / "cache" / "ey" / "key").stat().st_uid
    expected = b"data" if owner == 0 else None  # root may write anywhere
    assert cache.get("key") == expected


def test_a_cache_s_entry_that_is_a_fifo_is_compiled_again(tmp_path):
    cache = ObjectCache(tmp_path / "cache")
    cache.put("key", b"data")
    (tmp_path / "cache" / "ey" / "key").unlink()
    os.mkfifo(tmp_path / "cache" / "ey" / "key")
    assert cache.get("key") is None
    cache.put("key", b"new")
    assert cache.get("key") is None  # what somebody put there is left alone


def test_a_link_that_others_may_replace_is_not_private(tmp_path):
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to("../own")
    assert not_private(tmp_path / "open" / "link") is None
    (tmp_path / "open").chmod(0o777)
    assert "others may write" in not_private(tmp_path / "open" / "link")


@pytest.mark.parametrize("relative", ["", ".", "cache", "../cache"])
def test_the_folder_of_a_user_is_never_relative(monkeypatch, relative):
    monkeypatch.setenv("HOME", "/tessel/nobody")
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    assert user_cache() == "/tessel/nobody/.cache/tessel"
    monkeypatch.setenv("HOME", relative)
    assert os.path.isabs(user_cache())
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # nobody's, in a container
    assert os.path.basename(user_cache()) == f"tessel-{os.geteuid()}"
