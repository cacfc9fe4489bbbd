"""Trainer.fit: kinds of data, smaller last batches, callbacks."""

import csv

import numpy as np
import pytest
from tessel.compiler.errors import InputError, UsageError
from tessel.runtime.training.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping
from tessel.runtime.training.checkpoint import load_checkpoint
from tessel.runtime.training.optimizers import SGD
from tessel.runtime.training.trainer import Trainer

from ...support.interpreted import Interpreted
from .test_training import line_data, line_graph, line_values

QUIET = {"progress": False, "batch_size": 4}


def trainer(rate=0.1):
    graph = line_graph()
    return Trainer(graph, line_values(), SGD(rate), compile=Interpreted, evaluation=graph)


def test_the_last_batch_may_be_smaller():
    x, y = line_data(10)
    t = trainer(0.0)
    (record,) = t.fit((x, y), **QUIET)
    assert t.steps == 3 and record["loss"] == pytest.approx((y * y).mean(), rel=1e-5)
    t.fit((x, y), drop_last=True, **QUIET)
    assert t.steps == 5


def test_any_kind_of_data():
    x, y = line_data(8)
    whole = trainer()
    whole.step({"x": x, "y": y})
    kinds = {
        "lists of f64": {"x": x.astype(np.float64).tolist(), "y": y.astype(np.float64)},
        "batches": iter([(x, y)]),
        "dicts": [{"x": x, "y": y}].__iter__(),
        "a function": lambda: [(x, y)],
    }
    for name, data in kinds.items():
        t = trainer()
        t.fit(data, progress=False, batch_size=8)
        np.testing.assert_allclose(t.values["w"], whole.values["w"], rtol=1e-5, err_msg=name)
    with pytest.raises(InputError, match="an epoch has no batches"):
        trainer().fit(iter([(x, y)]), epochs=2, **QUIET)


def test_early_stopping_gives_back_the_best():
    data = line_data(32)
    weights = []

    class Watch(Callback):
        def after_epoch(self, trainer, epoch, record):
            weights.append(np.array(trainer.values["w"]))
            record["score"] = [1.0, 3.0, 2.0, 2.5, 9.0][epoch]

    t, stop = trainer(), EarlyStopping("score", patience=2)
    history = t.fit(data, epochs=5, callbacks=[Watch(), stop], **QUIET)
    assert len(history) == 4 and stop.best == 3.0
    np.testing.assert_array_equal(t.values["w"], weights[1])
    with pytest.raises(UsageError, match="the record has no 'accuracy'"):
        t.fit(data, callbacks=[EarlyStopping("accuracy")], **QUIET)


def test_losses_get_better_downwards():
    history = trainer().fit(
        line_data(16), validation=line_data(8), callbacks=[stop := EarlyStopping()], **QUIET
    )
    assert stop.best == history[0]["validation_loss"]


def test_checkpoints_and_logs(tmp_path):
    t, path = trainer(), tmp_path / "log.csv"
    each = Checkpoint(tmp_path / "{epoch}.safetensors", best_only=False)
    best = Checkpoint(tmp_path / "best.safetensors")
    history = t.fit(line_data(16), epochs=3, callbacks=[each, best, CSVLog(path)], **QUIET)
    assert sorted(f.name for f in tmp_path.glob("?.safetensors")) == [
        f"{i}.safetensors" for i in range(3)
    ]
    values = load_checkpoint(tmp_path / "best.safetensors", t.values)
    np.testing.assert_array_equal(values["w"], t.values["w"])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [float(r["loss"]) for r in rows] == [r["loss"] for r in history]
    assert [r["step"] for r in rows] == ["4", "8", "12"]
