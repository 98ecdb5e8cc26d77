"""The lock of labels on bad days: lost, refused, taken over, made by two at once, let go after an error."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from napari_sam.errors import LedgerError, OutputError
from napari_sam.tiling import remote_lock
from napari_sam.tiling.lock import Holder
from napari_sam.tiling.remote_lock import LEFT_BEHIND_SECONDS, LOCK_SUFFIX, Claim, check_not_held, held_output
from tiling.tiling_remote_locks import LOCK, PLACE, claim, dead_process, is_taken, leave, lock_of

pytestmark = pytest.mark.usefixtures("no_pause")


def renewed_often(monkeypatch, fs, times: int = 3) -> threading.Event:
    """Set once the lock was written so often after it was taken."""
    monkeypatch.setattr(remote_lock, "RENEW_SECONDS", 0.005)
    put, seen, often = MemoryFileSystem.pipe_file, [], threading.Event()

    def counting(self, path, value, mode="overwrite", **settings):
        put(self, path, value, mode, **settings)
        seen.append(path)
        if len(seen) > times:
            often.set()

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", counting)
    return often


def test_a_living_run_renews_its_lock_until_it_lets_it_go(fs, tmp_path, monkeypatch):
    often, before = renewed_often(monkeypatch, fs), threading.active_count()
    lock = lock_of(fs, tmp_path / "a.run")
    lock.acquire()
    fs.store["/locked/out.ome.zarr-napari-sam-lock"].modified -= timedelta(days=1)
    assert often.wait(20)
    assert lock_of(fs, tmp_path / "b.run")._age_seconds() < LEFT_BEHIND_SECONDS
    lock.check()
    lock.release()
    assert threading.active_count() == before
    assert not fs.find("/locked")


def test_a_renewal_that_hangs_at_the_end_of_a_run_holds_it_up_shortly_and_leaves_no_lock(fs, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_lock, "RENEW_SECONDS", 0.005)
    monkeypatch.setattr(remote_lock, "LAST_WORD_SECONDS", 0.01)
    put, hangs, back = MemoryFileSystem.pipe_file, threading.Event(), threading.Event()

    def hanging(self, path, value, mode="overwrite", **settings):
        if threading.current_thread().name == "napari-sam-lock":
            hangs.set()
            back.wait(20)
        put(self, path, value, mode, **settings)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", hanging)
    lock = lock_of(fs, tmp_path / "a.run")
    lock.acquire()
    assert hangs.wait(20)
    lock.release()
    assert fs.exists(LOCK)
    back.set()
    lock._renewing.join(20)
    assert not fs.exists(LOCK)


def test_a_renewal_that_fails_is_tried_again(fs, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_lock, "RENEW_SECONDS", 0.005)
    read, failed, done = MemoryFileSystem.cat_file, [], threading.Event()
    lock = lock_of(fs, tmp_path / "a.run")

    def breaking(self, path, **settings):
        if threading.current_thread().name == "napari-sam-lock":
            failed.append(path)
            if len(failed) < 4:
                raise ConnectionResetError("reset")
            done.set()
        return read(self, path, **settings)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", breaking)
    lock.acquire()
    assert done.wait(20)
    lock.check()
    lock.release()
    assert not fs.find("/locked")


def test_a_run_whose_lock_was_taken_over_neither_goes_on_nor_renews_nor_removes_it(fs, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_lock, "RENEW_SECONDS", 0.005)
    lock = lock_of(fs, tmp_path / "a.run")
    lock.acquire()
    lock._ended.set()
    lock._renewing.join()
    lock._ended.clear()
    other = claim()
    leave(fs, other)
    lock._renew()  # ends by itself
    told = (
        rf"{LOCK} is no longer the lock of this run: a run on 'elsewhere' \(process 7, .*\) took it over, as it was "
        rf"not renewed for a while. From here on this run leaves {PLACE} alone; its tiles are kept, and the same "
    )
    with pytest.raises(OutputError, match=told):
        lock.check()
    lock.release()
    assert fs.cat_file(LOCK) == other


@pytest.mark.parametrize("content", [None, b"{"], ids=["removed", "changed"])
def test_a_lock_that_somebody_removed_or_changed_is_not_made_again(fs, tmp_path, content):
    lock = lock_of(fs, tmp_path / "a.run")
    lock.acquire()
    fs.rm_file(LOCK)
    if content is not None:
        leave(fs, content)
    with pytest.raises(OutputError, match="somebody removed or changed it, or another run took it over and has ended"):
        lock.check()
    lock.release()
    assert fs.exists(LOCK) == (content is not None)


def test_a_place_that_refuses_the_lock_is_told_as_for_the_labels(fs, tmp_path, monkeypatch):
    def refuse(self, path, value, **settings):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with (
        pytest.raises(OutputError, match=rf"labels cannot be written to {PLACE}: access was refused \(PermissionError"),
        held_output(PLACE, tmp_path),
    ):
        pytest.fail("the block is not entered")


class WithoutConditions(MemoryFileSystem):
    """A server that takes every write, whatever its condition is."""

    cachable = False

    def pipe_file(self, path, value, mode="overwrite", **settings):
        super().pipe_file(path, value, **settings)


class RefusesConditions(MemoryFileSystem):
    """A server that does not know conditional writes, and says so."""

    cachable = False

    def pipe_file(self, path, value, mode="overwrite", **settings):
        if mode == "create":
            raise OSError(errno.ENOSYS, "A header you provided implies functionality that is not implemented")
        super().pipe_file(path, value, **settings)


class OtherWords(MemoryFileSystem):
    """A server whose refusal fsspec does not translate."""

    cachable = False

    def pipe_file(self, path, value, mode="overwrite", **settings):
        if mode == "create" and self.exists(path):
            raise OSError(errno.EINVAL, "PreconditionFailed")
        super().pipe_file(path, value, **settings)


STORES = [MemoryFileSystem, WithoutConditions, RefusesConditions, OtherWords]


@pytest.mark.parametrize("store", STORES)
def test_of_two_runs_that_come_at_the_same_moment_one_gets_the_lock_whatever_the_server_can(
    fs, store, tmp_path, monkeypatch
):
    first, second = lock_of(store(), tmp_path / "a.run"), lock_of(store(), tmp_path / "b.run")
    outcome = []

    def meanwhile(seconds: float) -> None:
        """While the first waits for the dust to settle, a second that saw no lock writes its own."""
        monkeypatch.setattr(remote_lock.time, "sleep", lambda seconds: None)
        outcome.append(second._create())

    monkeypatch.setattr(remote_lock.time, "sleep", meanwhile)
    if store in (MemoryFileSystem, OtherWords):
        first.acquire()
        first.check()
        assert outcome == [False]
    else:
        with pytest.raises(OutputError, match=rf"record '{tmp_path}/b.run', .* at this moment"):
            first.acquire()
        second.check()
        assert outcome == [True]
    first.release()
    second.release()
    assert not fs.find("/locked")


@pytest.mark.parametrize("store", STORES)
def test_a_free_place_is_taken_whatever_the_server_can(fs, store, tmp_path):
    assert is_taken(store(), tmp_path / "a.run")


def test_of_two_runs_that_find_the_same_dead_lock_the_later_one_is_refused(fs, tmp_path, monkeypatch):
    leave(fs, claim(Holder(dead_process(), Holder.here().host)))
    first, second = lock_of(fs, tmp_path / "a.run"), lock_of(fs, tmp_path / "b.run")
    judge = second._refuse_living

    def slow(found: bytes) -> None:
        judge(found)
        if not first._renewing.is_alive():
            first.acquire()

    monkeypatch.setattr(second, "_refuse_living", slow)
    with pytest.raises(OutputError, match=rf"record '{tmp_path}/a.run'"):
        second.acquire()
    first.check()
    first.release()


def test_a_lock_that_comes_and_goes_is_given_up(fs, tmp_path, monkeypatch):
    def exists(self, path, value, mode="overwrite", **settings):
        raise FileExistsError

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", exists)
    with pytest.raises(OutputError, match=rf"{LOCK} was taken by another run at this moment; wait for it, or choose"):
        lock_of(fs, tmp_path / "a.run").acquire()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_lock_is_let_go_after_an_error(fs, tmp_path, error):
    def fail() -> None:
        with held_output(PLACE, tmp_path):
            assert fs.exists(LOCK)
            with pytest.raises(OutputError, match="at this moment"):
                check_not_held(PLACE, tmp_path / "b.run")
            raise error

    with pytest.raises(error):
        fail()
    assert not fs.find("/locked")
    check_not_held(PLACE, tmp_path / "b.run")


def test_ctrl_c_while_the_lock_is_taken_leaves_none(fs, tmp_path, monkeypatch):
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote_lock.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), held_output(PLACE, tmp_path):
        pytest.fail("the block is not entered")
    assert not fs.find("/locked")


def test_a_lock_lost_in_the_block_is_told_at_its_end(fs, tmp_path):
    def lose() -> None:
        with held_output(PLACE, tmp_path) as check:
            check()
            fs.rm_file(LOCK)

    with pytest.raises(OutputError, match="is no longer the lock of this run"):
        lose()


def test_labels_on_this_machine_are_kept_apart_as_well(tmp_path):
    output, other = tmp_path / "new" / "labels.ome.zarr", tmp_path / "other.run"
    refusal = rf"process {os.getpid()} is running on .*new at this moment; wait for it or stop it first"
    with held_output(output, tmp_path / "one.run") as check:
        check()
        with pytest.raises(LedgerError, match=refusal):
            check_not_held(output, other)
        with pytest.raises(LedgerError, match=refusal), held_output(output, other):
            pass
    assert list(output.parent.iterdir()) == []
    left = output.with_name(f"{output.name}{LOCK_SUFFIX}")
    left.write_text(json.dumps(replace(Holder.here(), pid=dead_process()).to_json()))  # by a run that was killed
    check_not_held(output, other)
    with held_output(output, other):
        assert json.loads(left.read_text())["pid"] == os.getpid()
    assert list(output.parent.iterdir()) == []


def test_a_record_number_that_was_lost_is_made_anew(fs, tmp_path):
    (tmp_path / "record-id").write_bytes(b"\xff")
    with held_output(PLACE, tmp_path):
        record = (tmp_path / "record-id").read_text()
        assert re.fullmatch("[0-9a-f]{32}", record)
        assert Claim.parse(fs.cat_file(LOCK)).record == record
