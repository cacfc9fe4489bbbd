"""Models as PyTorch's exporters write them, with dynamic dims: `python -m tests.exports --help`.

    case.py       what an export is made of, for the modules with models
    language.py   models of text, sound and series, by their names
    vision.py     models of images; vision_language.py, video.py, torchvision.py, diffusion.py
    packaged.py   trained models that packages ship
    export.py     writes them; runs in a Python that has torch
    compare.py    compiles one once, and runs it at several sizes beside ONNX Runtime
    __main__.py   the command line; joins both

A module with models is listed in `export.MODULES` and has a dict `MODELS` of functions by their
names; each makes an `Export`. Weights are random, architectures are small and complete.
"""
