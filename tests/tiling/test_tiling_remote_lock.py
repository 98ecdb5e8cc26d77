"""Who may write to a URL: one living run at a time, whatever a dead one or another machine left there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import OutputError
from napari_sam.images.urls import RemotePath
from napari_sam.tiling.labels import check_labels_path
from napari_sam.tiling.lock import Holder
from napari_sam.tiling.remote_lock import LEFT_BEHIND_SECONDS, Claim, RemoteLock
from tiling.tiling_remote_locks import LOCK, PLACE, claim, dead_process, is_taken, leave, lock_of

pytestmark = pytest.mark.usefixtures("no_pause")


@pytest.fixture(params=["memory", "file"])
def somewhere(request, fs, tmp_path):
    """(file system, place, its folder as that file system says it)"""
    if request.param == "memory":
        return fs, PLACE, "/locked"
    (tmp_path / "there").mkdir()
    local = fsspec.filesystem("file", use_listings_cache=False)
    return local, RemotePath("file", f"{tmp_path}/there/out.ome.zarr"), f"{tmp_path}/there"


def test_of_two_runs_with_different_records_the_second_is_refused_until_the_first_ends(somewhere, tmp_path):
    fs, place, folder = somewhere
    first, second = lock_of(fs, tmp_path / "a.run", place), lock_of(fs, tmp_path / "b.run", place)
    first.acquire()
    told = (
        rf"a run on '\S+' \(process {os.getpid()}, record '{tmp_path}/a.run', since '\d{{4}}-\d\d-\d\d .* UTC'\) "
        rf"writes to {place} at this moment; wait for it or stop it first, or choose another output name"
    )
    for refused in (second.acquire, second.check_free):
        with pytest.raises(OutputError, match=told):
            refused()
    second.release()
    first.check()
    first.release()
    assert not fs.find(folder)
    second = lock_of(fs, tmp_path / "b.run", place)
    second.acquire()
    second.check()
    second.release()
    assert not fs.find(folder)


def test_the_lock_names_its_run_and_hides_nothing_of_the_place_from_those_who_ask_about_it(fs, tmp_path):
    lock = lock_of(fs, tmp_path / "a.run")
    lock.acquire()
    assert fs.find("/locked") == ["/locked/out.ome.zarr-napari-sam-lock"]
    read = json.loads(fs.cat_file(LOCK))
    assert (read["pid"], read["run_folder"]) == (os.getpid(), str(tmp_path / "a.run"))
    assert {"host", "started", "token", "since", "renewed"} < set(read)
    check_labels_path(str(PLACE))
    lock.release()


def test_a_lock_of_the_same_record_is_taken_over_at_once_wherever_its_holder_was(fs, tmp_path):
    assert is_taken(fs, tmp_path / "a.run")
    record = (tmp_path / "a.run" / "record-id").read_text()
    leave(fs, claim(record=record))
    lock_of(fs, tmp_path / "a.run").check_free()
    assert is_taken(fs, tmp_path / "a.run")
    leave(fs, claim(Holder.here(), record=record))  # of an earlier run of this process
    assert is_taken(fs, tmp_path / "a.run")
    assert (tmp_path / "a.run" / "record-id").read_text() == record


def test_a_copy_of_a_record_does_not_take_over_from_the_living_process_that_has_the_original(fs, tmp_path):
    assert is_taken(fs, tmp_path / "a.run")
    record = (tmp_path / "a.run" / "record-id").read_text()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        leave(fs, claim(Holder(process.pid, Holder.here().host), record=record))
        with pytest.raises(OutputError, match=rf"process {process.pid}, .* at this moment"):
            lock_of(fs, tmp_path / "a.run").acquire()
        process.communicate(b"\n")
    assert is_taken(fs, tmp_path / "a.run")


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(fs, tmp_path):
    leave(fs, claim(Holder(dead_process(), Holder.here().host)))
    assert is_taken(fs, tmp_path / "b.run")


def test_the_lock_of_a_process_whose_number_was_given_away_is_taken_over(fs, tmp_path):
    leave(fs, claim(Holder(os.getpid(), Holder.here().host, started="long before")))
    assert is_taken(fs, tmp_path / "b.run")


def test_a_container_or_a_machine_of_the_same_name_is_not_looked_up_by_numbers_that_mean_others_there(fs, tmp_path):
    leave(fs, claim(Holder(dead_process(), Holder.here().host, numbering="another")))
    with pytest.raises(OutputError, match="once it was silent for 10 minutes"):
        lock_of(fs, tmp_path / "b.run").acquire()


def test_the_run_of_another_machine_is_respected_while_it_renews_its_lock(fs, tmp_path):
    leave(fs, claim(), age=LEFT_BEHIND_SECONDS - 60)
    told = (
        rf"a run on 'elsewhere' \(process 7, record '/there/out.run', since 'then'\) writes to {PLACE}; wait for it or "
        rf"stop it first. If it is no longer alive, the same command goes on once it was silent for 10 minutes, or "
        rf"when you remove {LOCK}"
    )
    with pytest.raises(OutputError, match=told):
        lock_of(fs, tmp_path / "b.run").acquire()
    assert json.loads(fs.cat_file(LOCK))["token"] == "token"
    assert fs.find("/locked") == ["/locked/out.ome.zarr-napari-sam-lock"]
    leave(fs, claim(), age=LEFT_BEHIND_SECONDS + 60)
    assert is_taken(fs, tmp_path / "b.run")


def test_a_file_systems_own_times_say_how_old_a_lock_is(tmp_path):
    fs, place = fsspec.filesystem("file"), RemotePath("file", f"{tmp_path}/out.ome.zarr")
    path = tmp_path / "out.ome.zarr-napari-sam-lock"
    path.write_bytes(claim())
    lock = lock_of(fs, tmp_path / "b.run", place)
    with pytest.raises(OutputError, match="once it was silent"):
        lock.acquire()
    os.utime(path, (0, path.stat().st_mtime - LEFT_BEHIND_SECONDS - 1))
    lock.acquire()
    lock.check()
    lock.release()
    assert not path.exists()


class OtherClock(MemoryFileSystem):
    """A store whose clock differs from ours by any time."""

    cachable = False

    def modified(self, path):
        return super().modified(path) + self.ahead


@settings(max_examples=40, deadline=None)
@given(
    age=st.floats(-1e6, 1e6).filter(lambda s: abs(s - LEFT_BEHIND_SECONDS) > 30),
    offset=st.floats(-1e9, 1e9),
    since=st.text(),
)
def test_no_clock_but_that_of_the_place_counts(tmp_path_factory, age, offset, since):
    fs = OtherClock()
    fs.ahead = timedelta(seconds=offset)
    lock = RemoteLock(fs, PLACE, tmp_path_factory.getbasetemp())
    leave(fs, claim(since=since), age=age)
    if age < LEFT_BEHIND_SECONDS:
        with pytest.raises(OutputError, match="silent for 10 minutes"):
            lock.check_free()
    else:
        lock.check_free()
    assert fs.find("/locked") == ["/locked/out.ome.zarr-napari-sam-lock"]
    fs.rm("/locked", recursive=True)


def test_where_the_place_tells_no_time_the_lock_of_another_machine_is_left_to_the_user(fs, tmp_path, monkeypatch):
    def unknown(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(MemoryFileSystem, "modified", unknown)
    leave(fs, claim())
    with pytest.raises(OutputError, match=rf"no longer alive, remove {LOCK}, as this place does not tell when it was"):
        lock_of(fs, tmp_path / "b.run").acquire()
    assert fs.find("/locked") == ["/locked/out.ome.zarr-napari-sam-lock"]


def test_a_lock_that_is_let_go_while_its_age_is_asked_is_free(fs, tmp_path, monkeypatch):
    modified = MemoryFileSystem.modified

    def let_go(self, path):
        if path == LOCK and self.exists(path):
            self.rm_file(path)
        return modified(self, path)

    monkeypatch.setattr(MemoryFileSystem, "modified", let_go)
    leave(fs, claim())
    assert is_taken(fs, tmp_path / "b.run")


RUBBISH = {
    "empty": b"",
    "cut off": claim()[:40],
    "another file": b'{"name": "holiday"}',
    "a list": b"[1, 2]",
    "bytes": b"\xff\xfe\x00",
    "nested too deep": b"[" * 100_000,
    "a number of no process": claim().replace(b'"pid": 7', b'"pid": -1'),
    "a number beyond all": claim().replace(b'"pid": 7', b'"pid": 1' + b"0" * 40),
    "no token": claim().replace(b'"token": "token"', b'"token": 3'),
    "a start that is none": claim().replace(b'"started": "12"', b'"started": [12]'),
}


@pytest.mark.parametrize("content", RUBBISH.values(), ids=RUBBISH)
def test_a_lock_that_names_no_run_is_respected_until_it_is_old(fs, tmp_path, content):
    leave(fs, content)
    told = rf"a run that cannot be told writes to {PLACE} \(what stands in {LOCK} is cut off, or of another version\); "
    with pytest.raises(OutputError, match=told + r".* once it was silent for 10 minutes, or when you remove"):
        lock_of(fs, tmp_path / "b.run").acquire()
    assert fs.cat_file(LOCK) == content
    leave(fs, content, age=LEFT_BEHIND_SECONDS + 1)
    assert is_taken(fs, tmp_path / "b.run")


def test_signs_that_a_terminal_would_obey_are_spelled_out(fs, tmp_path):
    leave(fs, Claim(Holder(7, "a\x1b[2Jb"), "/x\n/y", "r", "t", "\u202enow").to_bytes())
    with pytest.raises(OutputError) as caught:
        lock_of(fs, tmp_path / "b.run").acquire()
    assert str(caught.value).isprintable()
    assert r"'a\x1b[2Jb' (process 7, record '/x\n/y', since '\u202enow')" in str(caught.value)


TEXTS = st.text(max_size=20)
HOLDERS = st.builds(Holder, st.integers(1, 2**31 - 1), TEXTS, st.none() | TEXTS, st.none() | TEXTS)


@given(st.builds(Claim, HOLDERS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_claims_come_back_as_they_were_written_and_cut_off_they_are_none(written):
    content = written.to_bytes()
    assert Claim.parse(content) == written
    assert Claim.parse(content[: len(content) // 2]) is None


VALUES = st.none() | st.booleans() | st.integers() | TEXTS
NAMES = st.sampled_from(["pid", "host", "started", "numbering", "run_folder", "record", "token"])  # no "since"


@settings(max_examples=50)
@given(VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(NAMES | TEXTS, VALUES, max_size=7))
def test_any_other_json_is_no_claim(value):
    assert Claim.parse(json.dumps(value).encode()) is None
