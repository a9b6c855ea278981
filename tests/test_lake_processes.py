"""Two machines' worth of processes on one shared lake."""

import multiprocessing

from shared_work import BLOCKS, archive, everything, load_again, store_of, train

from feature_store.lake import LakeLocation

SPAWN = multiprocessing.get_context("spawn")


def test_loaders_an_archiver_and_trainers_at_once_give_what_one_after_the_other_gives(shared_world, tmp_path):
    """Two loaders (days 0-1, days 2-3), an archiver and two trainers, each with its own scratch directory."""
    here = LakeLocation(tmp_path / "alone" / "lake")
    there = shared_world.empty(tmp_path / "machine" / "lake")
    stop, reports = tmp_path / "stop", [tmp_path / "first", tmp_path / "second"]
    with store_of(there) as store:
        store.lake.ensure_source("sales", store.compiled.schemas["sales"])

    def machine(number: int) -> LakeLocation:
        return LakeLocation(tmp_path / f"machine{number}" / "lake", there.catalog, there.data)

    writers = [SPAWN.Process(target=load_again, args=(machine(block), block)) for block in range(len(BLOCKS))]
    writers.append(SPAWN.Process(target=archive, args=(machine(0),)))
    trainers = [SPAWN.Process(target=train, args=(machine(1), stop, report)) for report in reports]
    for process in (*writers, *trainers):
        process.start()
    for process in writers:
        process.join()
    stop.touch()
    for process in trainers:
        process.join()

    assert [process.exitcode for process in (*writers, *trainers)] == [0] * 5
    for report in reports:
        reads, *wrong = report.read_text().split("\n")
        assert wrong == []
        assert int(reads) >= 1
    with store_of(here) as store:
        store.lake.ensure_source("sales", store.compiled.schemas["sales"])
    archive(here)
    for block in range(len(BLOCKS)):
        load_again(here, block)
    with store_of(here) as alone, store_of(there) as shared:
        assert everything(shared) == everything(alone)
