"""From images to names: the same classes whatever runs the task, one decoding for several tasks, and every refusal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import packnet_deploy
from packnet_deploy.data.preprocess import centre
from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import Pack
from packnet_deploy.predict import images as images_module
from packnet_deploy.predict.predictor import Prediction, Predictor, probabilities
from packnet_deploy.runners.pack import PackRunner

for folder in ("trt", "export"):  # the stand-in TensorRT, and its plans
    sys.path.append(str(Path(__file__).parents[1] / folder))

TASKS = ("shapes", "birds", "flowers")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three photos, one of them turned by EXIF."""
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"photo{number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        image = Image.fromarray(rng.integers(0, 256, (60 + 9 * number, 80, 3), np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6 if number == 1 else 1
        image.save(path, exif=exif)
    return paths


def expected(pack: Pack, photo: Path, task: str) -> Prediction:
    """By the pack itself, with nothing between but the input description."""
    header = pack.header(task)
    spec = header.input or pack.input
    with Image.open(photo) as image, PackRunner(pack) as runner:
        exif = image.getexif()
        rgb = image.convert("RGB")
        rgb.info["exif"] = exif.tobytes()
        shares = probabilities(runner.infer(spec.normalise(centre(rgb, spec)[None]), task))[0]
    order = np.argsort(-shares)[:5]
    return Prediction(task, tuple((header.classes[label], float(shares[label])) for label in order))  # type: ignore[arg-type]


def assert_same(got: Prediction, want: Prediction) -> None:
    assert got.task == want.task
    assert [guess[0] for guess in got.guesses] == [guess[0] for guess in want.guesses]
    np.testing.assert_allclose([g[1] for g in got.guesses], [w[1] for w in want.guesses], atol=1e-4)


def written(pack: Pack, kind: str, folder: Path) -> Path:
    """The pack in one of the forms that ``load`` opens."""
    if kind == "pack":
        return pack.path
    if kind == "selector":
        return export_selector(pack, folder / "all.onnx", ExportOptions(layout="selector")).files[0]
    (folder / kind).mkdir()
    if kind == "shared":
        export_shared(pack, TASKS, folder / "shared/s", ExportOptions(layout="shared"))
        return folder / "shared/s"
    options = ExportOptions(batch="2") if kind == "batches of two" else ExportOptions()
    for task in TASKS:
        export_task(pack, task, folder / kind / f"{task}.onnx", options)
    return folder / kind


@pytest.mark.parametrize("kind", ["pack", "files", "batches of two", "selector", "shared"])
def test_every_form_of_a_pack_answers_as_the_pack(kind: str, golden: Path, photos: list[Path], tmp_path: Path) -> None:
    pack = Pack.open(golden)
    with packnet_deploy.load(written(pack, kind, tmp_path)) as predictor:
        assert isinstance(predictor, Predictor)
        assert set(predictor.tasks) == set(TASKS)
        for photo in photos:
            for prediction in predictor.predict_all(photo):
                assert_same(prediction, expected(pack, photo, prediction.task))
        for answer, photo in zip(predictor.stream(photos, TASKS, batch_size=2), photos, strict=True):
            assert (answer.image, answer.fault) == (str(photo), None)
            for prediction in answer.predictions:
                assert_same(prediction, expected(pack, photo, prediction.task))


def test_a_plan_answers_as_the_pack(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stand-in for TensorRT, not on the real thing."""
    from stand_in import GPU, StandInDevice, StandInTensorRT
    from stand_in_plans import growing_pack, write_plan

    from packnet_deploy.trt import engine

    pack, device = growing_pack(tmp_path / "tiny.pack"), StandInDevice()
    write_plan(tmp_path / "tiny.plan", pack, "bind")
    monkeypatch.setattr(engine, "load_flavour", lambda name: StandInTensorRT(device, "bind").flavour)
    monkeypatch.setattr(engine, "expect_gpu", lambda purpose, index=0: GPU)
    monkeypatch.setattr(engine, "Device", lambda gpu, index=0: device)
    with packnet_deploy.load(tmp_path / "tiny.plan", pack=pack.path) as predictor:
        for prediction in predictor.predict_all(photos[0]):
            assert_same(prediction, expected(pack, photos[0], prediction.task))
    assert device.closed
    with pytest.raises(UsageError, match=r"tiny\.plan: a plan runs with the pack it was built from"):
        packnet_deploy.load(tmp_path / "tiny.plan")


@pytest.fixture
def quickstart(tmp_path: Path) -> Pack:
    """Two tasks of two and three classes in the quickstart's network, with its normalisation of the second's own."""
    import torch

    from packnet_deploy.pack import Backbone, append_task, create_pack
    from packnet_deploy.training.backbones import build, input_spec
    from packnet_deploy.training.network import PackedNetwork
    from packnet_deploy.training.trace import trace_skeleton

    torch.manual_seed(5)
    module, head = build("quickstart", 2)
    network = PackedNetwork(module, head, input_spec("quickstart", 16))
    graph = trace_skeleton(module, head, network.spec).SerializeToString(deterministic=True)
    pack: Pack | None = None
    for task, classes, own in (("cats", ["tom", "tiger"], ()), ("dogs", ["rex", "lassie", "bello"], ("norm",))):
        network.begin(task, classes, separate=own)
        with torch.no_grad():
            for parameter in network.trainable_parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for name, buffer in module.named_buffers():
                if name.endswith("running_mean") and (own or pack is None):
                    buffer.add_(torch.rand_like(buffer))
        network.prune(0.5)
        network.freeze()
        if pack is None:
            backbone = Backbone("quickstart", head)
            pack = create_pack(tmp_path / "q.pack", backbone, network.spec, graph, network.packable, network.new_task())
        else:
            pack = append_task(pack, network.new_task())
    assert pack is not None
    return pack


def test_pytorch_answers_as_onnx_runtime(quickstart: Pack, photos: list[Path]) -> None:
    with (
        packnet_deploy.load(quickstart.path) as ours,
        packnet_deploy.load(quickstart.path, engine="torch", threads=1) as torchs,
    ):
        assert torchs.tasks == ours.tasks == ("cats", "dogs")
        for photo in photos:
            for got, want in zip(torchs.predict_all(photo), ours.predict_all(photo), strict=True):
                assert_same(got, want)
    with packnet_deploy.load(quickstart.path, tasks=["dogs"], engine="torch") as dogs:
        assert {guess.name for guess in dogs.predict(photos[0], "dogs").guesses} == {"rex", "lassie", "bello"}
        with pytest.raises(UsageError, match="cats"):
            dogs.predict(photos[0], "cats")


def test_whatever_an_image_comes_as(golden: Path, photos: list[Path]) -> None:
    path = photos[0]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    with packnet_deploy.load(golden, tasks=["flowers"]) as predictor:
        of_path = predictor.predict(path)
        with path.open("rb") as file, Image.open(path) as image:
            for given in (str(path), file, io.BytesIO(path.read_bytes()), image, pixels):
                assert_same(predictor.predict(given), of_path)
        grey = predictor.predict(pixels[..., 0])
        assert_same(grey, predictor.predict(np.repeat(pixels[..., :1], 3, axis=2)))


def test_probabilities_are_the_softmax_and_top_says_how_many(golden: Path, photos: list[Path]) -> None:
    with packnet_deploy.load(golden) as predictor:
        for task, classes in (("shapes", 3), ("flowers", 5)):
            whole = predictor.predict(photos[0], task, top=99)
            assert len(whole.guesses) == classes == len(predictor.classes(task))
            assert sum(guess.probability for guess in whole.guesses) == pytest.approx(1)
            assert list(whole.guesses) == sorted(whole.guesses, key=lambda guess: -guess.probability)
            assert (whole.name, whole.probability) == whole.guesses[0]
            assert predictor.predict(photos[0], task, top=2).guesses == whole.guesses[:2]


def test_softmax_of_large_logits() -> None:
    np.testing.assert_allclose(probabilities(np.array([[1e4, 0, -1e4]], np.float32)), [[1, 0, 0]])


def test_one_image_is_decoded_once_for_all_tasks(
    golden: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []
    real = images_module.read_rgb
    monkeypatch.setattr(images_module, "read_rgb", lambda file: decoded.append(file) or real(file))
    with packnet_deploy.load(golden) as predictor:
        predictor.predict_all(photos[0])
        assert decoded == [photos[0]]
        list(predictor.stream(photos))
        assert decoded == [photos[0], *photos]


def test_an_image_that_cannot_be_read_does_not_stop_the_others(golden: Path, photos: list[Path]) -> None:
    photos[1].write_bytes(b"no image")
    with packnet_deploy.load(golden) as predictor:
        first, second, third = predictor.stream(photos, batch_size=2)
        assert (len(first.predictions), second.predictions, len(third.predictions)) == (3, (), 3)
        assert "photo1.jpg: expected a readable image" in str(second.fault)
        photos[0].write_bytes(b"")
        assert all(answer.fault for answer in predictor.stream(photos[:2]))
        with pytest.raises(EnvironmentFault, match=r"photo1\.jpg: expected a readable image"):
            predictor.predict(photos[1], "flowers")


def test_refusals(golden: Path, photos: list[Path], tmp_path: Path) -> None:
    with packnet_deploy.load(golden) as predictor:
        with pytest.raises(UsageError, match="task: expected one of shapes, birds, flowers, got none"):
            predictor.predict(photos[0])
        with pytest.raises(UsageError, match="got 'cars'"):
            predictor.predict(photos[0], "cars")
        for pixels in (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(UsageError, match=r"image: expected uint8 \[height, width, 3\]"):
                predictor.predict(pixels, "flowers")
    with pytest.raises(EnvironmentFault, match=r"gone\.pack: expected a pack, an ONNX file or a plan"):
        packnet_deploy.load(tmp_path / "gone.pack")
    with pytest.raises(UsageError, match="no task 'cars'; its tasks: shapes, birds, flowers"):
        packnet_deploy.load(golden, tasks=["cars"])
    with pytest.raises(UsageError, match="engine: expected one of onnx, torch, got 'tpu'"):
        packnet_deploy.load(golden, engine="tpu")
    with pytest.raises(UsageError, match="its network is not one packnet can build in PyTorch"):
        packnet_deploy.load(golden, engine="torch")


def test_an_export_is_known_by_what_it_is_not_by_its_suffix(golden: Path, photos: list[Path], tmp_path: Path) -> None:
    export_task(Pack.open(golden), "birds", tmp_path / "birds.model")
    with packnet_deploy.load(tmp_path / "birds.model") as birds:
        assert_same(birds.predict(photos[0], "birds"), expected(Pack.open(golden), photos[0], "birds"))
    (tmp_path / "birds.plan").write_bytes(b"ftrt")
    with pytest.raises(UsageError, match="a plan runs with the pack it was built from"):
        packnet_deploy.load(tmp_path / "birds.plan")


def test_a_foreign_model_says_what_it_lacks(golden: Path, photos: list[Path], tmp_path: Path) -> None:
    import onnx

    path = export_task(Pack.open(golden), "birds", tmp_path / "birds.onnx").files[0]
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "mute.onnx")
    with (
        packnet_deploy.load(tmp_path / "mute.onnx") as predictor,
        pytest.raises(ArtefactError, match=r"mute\.onnx: expected its metadata to say 'classes' and 'preprocessing'"),
    ):
        predictor.predict(photos[0])
