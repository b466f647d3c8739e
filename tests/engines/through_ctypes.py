"""What Rust, C# or Go would do: one shared library, no C++, logits into memory of one's own."""

from __future__ import annotations

import ctypes

import numpy as np

from packnet_deploy.pack import Pack, probe_batch


class Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("device", ctypes.c_int32),
        ("bank", ctypes.c_int32),
        ("resident", ctypes.c_int32),
        ("contexts", ctypes.c_int32),
        ("cuda_graphs", ctypes.c_int32),
        ("threads", ctypes.c_uint32),
    ]


class Answer(ctypes.Structure):
    _fields_ = [("task", ctypes.c_char_p), ("classes", ctypes.c_size_t)]


class LastError(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int)] + [
        (part, ctypes.c_char_p) for part in ("line", "file", "subject", "expected", "got", "next")
    ]


def call_all(paths: list[str]) -> None:
    """Every call of packnet.h that a program needs, their answers checked.

    Args:
        paths: of the library, a plan and its pack.
    """
    library = ctypes.CDLL(paths[0])
    library.packnet_last_error.restype = ctypes.POINTER(LastError)
    library.packnet_class_count.restype = ctypes.c_size_t
    library.packnet_class_name.restype = ctypes.c_char_p
    library.packnet_current_task.restype = ctypes.c_char_p

    pack = Pack.open(paths[2])
    options, engine = Options(), ctypes.c_void_p()
    library.packnet_options_init(ctypes.byref(options))
    assert options.size == ctypes.sizeof(Options)
    options.resident = 2
    opening = (paths[1].encode(), paths[2].encode(), ctypes.byref(options), ctypes.byref(engine))
    assert library.packnet_engine_open(*opening) == 0
    images = probe_batch(pack.input)
    for task in ("flowers", "birds", "shapes", "birds"):
        classes = library.packnet_class_count(engine, task.encode())
        logits, answer = np.empty((len(images), classes), np.float32), Answer()
        request = (engine, task.encode(), images.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(images)))
        into = (logits.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(logits.size), ctypes.byref(answer))
        assert library.packnet_infer(*request, *into) == 0
        assert (answer.task.decode(), answer.classes) == (task, classes)
        np.testing.assert_allclose(logits, pack.load_task(task).probe_logits, rtol=1e-4, atol=1e-5)
    assert library.packnet_class_name(engine, b"birds", ctypes.c_size_t(1)).decode() == "Mönchsgrasmücke"
    assert library.packnet_current_task(engine) == b""

    assert library.packnet_set_task(engine, b"cars") == 2
    error = library.packnet_last_error().contents
    assert (error.status, error.subject, error.got) == (2, b"task", b"'cars'")
    library.packnet_engine_close(engine)
