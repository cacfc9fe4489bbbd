"""The ai.onnx.ml domain: linear classifiers, normalisers, maps."""

from .call import Call


def linear_classifier(c: Call):
    c.ignore("multi_class")
    labels = c.attr("classlabels_ints", None) or c.attr("classlabels_strings", None)
    if not labels:
        raise c.unsupported("a LinearClassifier without class labels")
    return c.b.emit(
        "linear_classifier",
        c.x(0),
        coefficients=tuple(c.attr("coefficients")),
        intercepts=tuple(c.attr("intercepts", ())),
        post_transform=c.attr("post_transform", "NONE"),
        labels=tuple(labels),
    )


def normalizer(c: Call):
    return c.b.emit("normalizer", c.x(0), norm=c.attr("norm", "MAX"))


def zip_map(c: Call):
    labels = c.attr("classlabels_int64s", None) or c.attr("classlabels_strings", None)
    if not labels:
        raise c.unsupported("a ZipMap without class labels")
    return c.b.emit("zip_map", c.x(0), labels=tuple(labels))


def scaler(c: Call):
    """(x - offset) * scale"""
    x = c.x(0).cast("f32")
    return (x - c.attr("offset", [0.0])) * c.attr("scale", [1.0])


TABLE = {
    "LinearClassifier": linear_classifier,
    "Normalizer": normalizer,
    "ZipMap": zip_map,
    "Scaler": scaler,
}
