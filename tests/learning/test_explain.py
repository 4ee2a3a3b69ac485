"Heat maps of classifiers of all kinds, scored against what disease changed"

import gc
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from covidxr.base.errors import DataError, ModelError
from covidxr.base.terms import APPEARANCES
from covidxr.dicom import Xray, XrayFacts
from covidxr.explain import causal_truth, explain, map_scores, pointing_game
from covidxr.learning import attribution
from covidxr.learning.attribution import METHODS, Question, attribute, feature_layer, network_input, open_classifier
from covidxr.learning.map_training import load_maps, map_plan
from covidxr.learning.maps import MapNetwork
from covidxr.learning.models import save_model
from covidxr.learning.networks import build_classifier
from covidxr.phantom import simulate

ILL = ["typical", "indeterminate", "atypical"]
FOUR = ["negative", *ILL]


@pytest.fixture(scope="module")
def xray():
    "A patient whom the shipped network has not seen, wider than high"
    return simulate(700_003, "typical", 180, strength=1.2)


def _plain(folder: Path, arch: str = "test_resnet", size: int = 96, classes: list[str] = FOUR) -> Path:
    "A plain classifier's folder, as a run has it, with random weights"
    config = {"kind": "classifier", "arch": arch, "classes": classes, "size": size, "mean": 0.5, "spread": 0.25}
    folder.mkdir()
    save_model(folder, build_classifier(arch, len(classes)).state_dict(), config, pd.DataFrame({"epoch": []}))
    return folder


def _mapped(folder: Path, classes: list[str], answer: str | None, networks: int = 1) -> Path:
    "A folder of a classifier with a map, with random weights"
    config = map_plan(classes, arch="test_resnet", size=96, stride=8, networks=networks) | {"answer": answer}
    state = {}
    for number in range(networks):
        parts = MapNetwork("test_resnet", len(classes), 8).state_dict()
        state |= {f"{number}.{name}": value for name, value in parts.items()}
    folder.mkdir()
    save_model(folder, state, config, pd.DataFrame({"epoch": []}))
    return folder


@pytest.mark.parametrize("method", [name for name in METHODS if name != "map"])
def test_a_plain_classifiers_folder_gives_a_heat_map_as_large_as_the_xray(tmp_path, xray, method):
    heat = explain(_plain(tmp_path / "plain"), xray, method, "typical")
    assert heat.shape == xray.pixels.shape and heat.dtype == np.float32
    assert np.isfinite(heat).all() and heat.min() >= 0


@pytest.mark.parametrize("method", METHODS)
def test_a_map_classifiers_folder_of_several_networks_does_too(tmp_path, xray, method):
    heat = explain(_mapped(tmp_path / "map", FOUR, None, networks=2), xray.pixels, method, ILL)
    assert heat.shape == xray.pixels.shape and np.isfinite(heat).all() and heat.min() >= 0


def test_where_the_map_answers_its_answer_is_explained_and_not_the_head_that_nobody_reads(tmp_path, xray):
    (network,), config = open_classifier(_mapped(tmp_path / "two", ["none", "opacity"], "opacity"))
    torch.nn.init.uniform_(network.map.weight)  # where nothing speaks for opacity, Grad-CAM would be 0 everywhere
    before = explain((network, config), xray, target="opacity")
    assert before.max() > 0
    torch.nn.init.normal_(network.classes[1].weight)
    np.testing.assert_allclose(explain((network, config), xray, target="opacity"), before, atol=1e-6)
    torch.nn.init.uniform_(network.map.weight)
    assert not np.allclose(explain((network, config), xray, target="opacity"), before, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_shipped_networks_maps_find_disease_better_than_chance(xray, method):
    scores = map_scores(explain(None, xray, method, ILL), xray)
    by_chance = scores["chance"] / (2 - scores["chance"])  # the overlap of as many pixels taken at random
    assert scores["overlap"] > 2 * by_chance and scores["correlation"] > 0.2


def test_a_heat_map_is_that_of_captum_called_by_hand(xray):
    from captum.attr import LayerGradCam

    (network,), config = open_classifier(None)
    square = (np.clip(np.random.default_rng(0).normal(0.5, 0.2, (128, 128)), 0, 1) * 255).astype(np.uint8)
    batch = network_input(square[None], config)
    asked = LayerGradCam(lambda x: _log_odds(network(x)[1]), network.join)  # one call: the hook keeps the last
    own = attribute([Question(network, [False, True, False, False])], batch, "grad_cam")
    cells = asked.attribute(batch, relu_attributions=True)
    wanted = torch.nn.functional.interpolate(cells, (128, 128), mode="bilinear")[:, 0].detach().numpy()
    np.testing.assert_allclose(own, wanted, atol=1e-5)


def _log_odds(logits: torch.Tensor) -> torch.Tensor:
    "How sure the network is of the second class, against the others"
    chances = logits.softmax(1)[:, 1]
    return (chances / (1 - chances)).log()


def test_a_linear_networks_occlusion_is_what_each_window_adds():
    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.zeros(1, 1, 16, 16))
            self.weights.data[..., 4:6, 8:10] = 1

        def forward(self, batch):
            answer = (batch * self.weights).sum((1, 2, 3))
            return torch.stack([torch.zeros_like(answer), answer], 1)

    heat = attribute([Question(Linear(), [False, True])], torch.ones(1, 1, 16, 16), "occlusion")[0]
    assert heat[4:6, 8:10].min() == heat.max() > 0
    assert heat[3:7, 7:11].min() > 0 and (heat > 0).sum() == 16  # windows of 2 x 2 pixels, a pixel apart


def test_the_network_is_left_as_it_was_training_mode_and_overwriting_activations_included(xray):
    network = build_classifier("test_resnet", 2).train()
    inplace = [part for part in network.modules() if getattr(part, "inplace", False)]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        explain((network, {"classes": ["a", "b"], "size": 96}), xray, target="a")
    assert network.training and inplace and all(part.inplace for part in inplace)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(weights.grad is None for weights in network.parameters())


def test_the_layer_is_the_deepest_that_can_point_somewhere():
    network = build_classifier("test_resnet", 2).eval()
    body = network[0].model
    for size, layer in ((96, body.layer3), (128, body.layer3), (224, body.layer4)):
        found = feature_layer(Question(network, [True, False]), torch.zeros(1, 1, size, size))
        assert found is layer or found in list(layer.modules()) or layer in list(found.modules()), size
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with pytest.raises(ModelError, match="take the method occlusion"):
        feature_layer(Question(flat, [True, False]), torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("arch", ["test_vit", "cait_xxs24_224", "mixer_s16_224", "swin_tiny_patch4_window7_224"])
def test_a_network_that_keeps_places_as_tokens_or_channels_last_is_not_taken_for_one_with_maps(arch):
    import timm

    size = 224 if "224" in arch else 160
    network = timm.create_model(arch, in_chans=1, num_classes=2).eval()
    for answer in (attribute, lambda question, batch, _: feature_layer(question[0], batch)):
        with pytest.raises(ModelError, match="no feature map of 7 x 7 cells; take the method occlusion"):
            answer([Question(network, [True, False])], torch.zeros(1, 1, size, size), "grad_cam")


@pytest.mark.parametrize("arch", ["convnextv2_atto", "mobilevit_xxs", "edgenext_xx_small", "visformer_tiny"])
def test_a_network_that_mixes_maps_with_attention_is_asked_at_a_map(arch):
    import timm

    size = 224 if arch == "visformer_tiny" else 160
    network, sides = timm.create_model(arch, in_chans=1, num_classes=2).eval(), []
    layer = feature_layer(Question(network, [True, False]), torch.zeros(1, 1, size, size))
    layer.register_forward_hook(lambda part, given, answer: sides.append(answer.shape[2:]))
    with torch.no_grad():
        network(torch.zeros(1, 1, size, size))
    assert sides[0][0] == sides[0][1] and size / sides[0][0] in (8, 16, 32)


def test_a_network_is_looked_through_once_for_each_size_and_not_kept_alive():
    network = build_classifier("test_resnet", 2).eval()
    question, passes = Question(network, [True, False]), []
    network.register_forward_hook(lambda part, given, answer: passes.append(len(given[0])))
    first = feature_layer(question, torch.zeros(1, 1, 128, 128))
    assert 1 <= len(passes) <= 2  # the shapes, and the corners of the deepest one
    asked = len(passes)
    torch.nn.init.normal_(next(network.parameters()))
    assert feature_layer(question, torch.ones(2, 1, 128, 128)) is first and len(passes) == asked
    feature_layer(question, torch.zeros(1, 1, 224, 224))
    assert len(passes) > asked
    network[0].model.layer3 = torch.nn.Sequential(network[0].model.layer3)  # another architecture
    assert feature_layer(question, torch.zeros(1, 1, 128, 128)) is network[0].model.layer3
    gone = weakref.ref(network)
    del network, question, first
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("size", [32, 40, 48])
def test_a_small_map_with_fewer_cells_than_are_asked_is_explained(tmp_path, xray, size):
    config = map_plan(["none", "opacity"], arch="test_resnet", size=size, stride=16) | {"answer": "opacity"}
    network = MapNetwork("test_resnet", 2, 16)
    for method in METHODS:
        assert explain((network, config), xray, method, "opacity").shape == xray.pixels.shape
    assert explain((network, config), xray).shape == xray.pixels.shape


def test_what_is_explained_without_a_target_is_what_the_shipped_network_answers():
    from covidxr.learning.shipped_reader import as_learnt, interpret

    networks, config = attribution.open_classifier(None)
    for seed in (3_300_080, *range(3_300_000, 3_300_012)):  # of the first, one view alone says another class
        xray = simulate(seed, APPEARANCES[seed % 4], 160)
        said = interpret(xray).probabilities
        batch = network_input(as_learnt(xray.pixels, config["size"])[0][None], config)
        assert attribution.probable_class(networks, config, batch) == max(said, key=said.get)


def test_a_small_sharp_xray_is_read_as_a_large_one():
    from covidxr.learning.shipped_reader import interpret

    def extent(size: int) -> float:
        drawn = (simulate(4_500_000 + row, "negative", size, marked=False) for row in range(24))
        return float(np.mean([interpret(one).extent for one in drawn]))

    usual = extent(256)
    for size in (96, 112, 128, 144):
        assert extent(size) - usual < 0.35, size
        ill = [simulate(4_500_000 + row, "typical", size, marked=False) for row in range(12)]
        assert abs(np.mean([interpret(one).extent - one.severity()["extent"] for one in ill])) < 0.45, size
        found, drawn = interpret(ill[0]).boxes, ill[0].boxes  # in pixels of the small picture
        assert (found[["x_max", "y_max"]].max() <= [ill[0].pixels.shape[1], ill[0].pixels.shape[0]]).all()
        assert np.abs(found[["x_min", "y_min"]].min() - drawn[["x_min", "y_min"]].min()).max() < size / 5


def test_without_a_target_the_most_probable_class_is_explained(xray):
    (network,), config = open_classifier(None)
    likely = attribution.probable_class([network], config, network_input(np.zeros((1, 128, 128), np.uint8), config))
    assert likely in FOUR
    calm = simulate(700_003, "negative", 128)
    np.testing.assert_array_equal(explain(None, calm), explain(None, calm, target="negative"))


def test_what_cannot_be_explained_is_refused_in_words(tmp_path, xray):
    with pytest.raises(DataError, match="unknown method"):
        explain(None, xray, "lime")
    with pytest.raises(DataError, match="target 'covid': must be one of negative"):
        explain(None, xray, target="covid")
    with pytest.raises(DataError, match="not all"):
        explain(None, xray, target=FOUR)
    with pytest.raises(DataError, match="what read_xray gives"):
        explain(None, "one.dcm")
    with pytest.raises(DataError, match="numbers from 0 to 1"):
        explain(None, xray.pixels * 255)
    for facts in (XrayFacts(body_part="HAND"), XrayFacts(view="LL")):  # as `interpret` and `severity` do
        with pytest.raises(DataError, match="no frontal chest X-ray: its header says that"):
            explain(None, Xray(xray.pixels, facts))
    with pytest.raises(ModelError, match="config.json is missing"):
        explain(tmp_path, xray)
    with pytest.raises(ModelError, match="a model is a classifier's folder"):
        explain(7, xray)
    with pytest.raises(ModelError, match="draws no map of its own"):
        explain(_plain(tmp_path / "plain"), xray, "map", "typical")


def test_the_causal_truth_is_nothing_in_a_healthy_patient_and_strongest_in_the_opacities(xray):
    truth, mask = causal_truth(xray), np.any(xray.opacities, axis=0)
    assert not causal_truth(simulate(700_003, "negative", 180)).any()
    assert truth[mask].mean() > 10 * truth[~mask].mean()
    with pytest.raises(DataError, match="only a simulated X-ray"):
        causal_truth(xray.without_disease())


def test_the_pointing_game_counts_ties_by_their_share():
    mask = np.zeros((2, 3), bool)
    mask[0, :2] = True
    assert pointing_game(mask * 1.0, mask) == 1 and pointing_game(~mask * 1.0, mask) == 0
    assert pointing_game(np.zeros((2, 3)), mask) == pytest.approx(1 / 3)
    assert pointing_game(np.array([[1, 0, 1], [0, 0, 0.0]]), mask) == 0.5
    for heat, wrong in ((np.zeros((3, 2)), mask), (np.full((2, 3), np.nan), mask), (mask * 1.0, mask * 1.0)):
        with pytest.raises(DataError):
            pointing_game(heat, wrong)


def test_the_truth_itself_has_the_best_scores_and_an_empty_map_those_of_chance(xray):
    mask = np.any(xray.opacities, axis=0)
    best = map_scores(mask.astype(float), xray)
    assert best["pointing"] == best["overlap"] == 1 and best["chance"] == mask.mean()
    empty = map_scores(np.zeros(mask.shape), xray)
    assert empty["pointing"] == pytest.approx(mask.mean()) and empty["correlation"] == 0
    with pytest.raises(DataError, match="has no opacity"):
        map_scores(np.zeros((100, 100)), simulate(3, "negative", 100))


def test_tied_pixels_count_by_their_share_and_none_comes_first(xray):
    mask = np.any(xray.opacities, axis=0)
    opaque, pixels = int(mask.sum()), mask.size
    by_chance = opaque * mask.mean()
    assert map_scores(np.zeros(mask.shape), xray)["overlap"] == pytest.approx(by_chance / (2 * opaque - by_chance))
    half = np.zeros(mask.shape)
    half.ravel()[np.flatnonzero(mask)[: opaque // 2]] = 1  # half of the opacity found, all else a tie
    found = opaque // 2 + (opaque - opaque // 2) ** 2 / (pixels - opaque // 2)
    assert map_scores(half, xray)["overlap"] == pytest.approx(found / (2 * opaque - found))
    assert map_scores(half[::-1], xray)["pointing"] == mask[half[::-1] == 1].mean()
    noise = np.random.default_rng(0).permutation(pixels).reshape(mask.shape).astype(float)  # no ties
    inside = mask.ravel()[np.argsort(noise, axis=None)[::-1][:opaque]].sum()
    assert map_scores(noise, xray)["overlap"] == inside / (2 * opaque - inside)
    assert map_scores(torch.from_numpy(half).requires_grad_(), xray) == map_scores(half, xray)


def test_the_own_map_is_of_opacities_and_not_of_health(xray):
    for target in ("negative", ["negative", "typical"]):
        with pytest.raises(DataError, match="target negative: the network's own map shows opacities"):
            explain(None, xray, "map", target=target)
    np.testing.assert_array_equal(explain(None, xray, "map", target="typical"), explain(None, xray, "map"))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "map"])
def test_a_heat_that_is_no_number_is_refused(xray, method):
    network, config = build_classifier("test_resnet", 2), {"classes": ["a", "b"], "size": 96}
    with pytest.raises(ModelError, match=r"spread \(in a model's configuration\) must be above 0, not 0"):
        explain((network, config | {"spread": 0}), xray, method, "a")
    for weights in network.parameters():
        torch.nn.init.constant_(weights, float("nan"))
    with pytest.raises(ModelError, match="answer is not a number"):
        explain((network, config), xray, method, "a")


def test_a_network_that_does_not_fit_its_configuration_is_named(xray):
    network, config = build_classifier("test_resnet", 4), {"classes": FOUR, "size": 96}
    for classes in (FOUR[:3], [*FOUR, "fifth"]):
        for method in ("grad_cam", "occlusion", "gradients"):
            with pytest.raises(
                ModelError, match=rf"answers with numbers of shape .*, not of shape \(\d+, {len(classes)}\)"
            ):
                explain((network, config | {"classes": classes}), xray, method, "typical")
    coloured = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    with pytest.raises(ModelError, match=r"does not take a batch of shape \(1, 1, 96, 96\)"):
        explain((coloured, {"classes": ["a", "b"], "size": 96}), xray, "occlusion")
    with pytest.raises(ModelError, match="draws no map, though its configuration says so"):
        explain(
            (build_classifier("test_resnet", 2), {"classes": ["a", "b"], "size": 96, "map": True, "answer": "a"}), xray
        )
    for wrong, said in (
        ({"size": float("inf")}, "size .* must be a whole number from 8, not inf"),
        ({"mean": None}, "mean .* must be a number, not None"),
        ({"classes": None}, "classes .* must be a list"),
    ):
        with pytest.raises(ModelError, match=said):
            explain((network, config | wrong), xray)
    for target in (1, [], [1], 3.5, [["typical"]]):
        with pytest.raises(DataError, match="must be one of negative, typical"):
            explain((network, config), xray, target=target)
    assert explain((network, config | {"classes": [0, 1, 2, 3]}), xray, target=1).shape == xray.pixels.shape


@pytest.mark.parametrize("method", METHODS)
def test_half_and_double_numbers_and_inference_mode_give_the_same_map(xray, method):
    usual = explain(None, xray, method, ILL)
    with torch.inference_mode():
        np.testing.assert_array_equal(explain(None, xray, method, ILL), usual)
    networks, config = open_classifier(None)
    for kind, least in ((torch.float64, 0.999), (torch.bfloat16, 0.9)):
        again = explain(([one.to(kind) for one in networks], config), xray, method, ILL)
        assert again.dtype == np.float32 and np.corrcoef(again.ravel(), usual.ravel())[0, 1] > least


def test_a_missing_captum_is_named_with_the_extra(xray, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ImportError, match=r"captum is not installed; `pip install 'covidxr\[train\]'`"):
        explain(None, xray)
    assert explain(None, xray, "map").shape == xray.pixels.shape


def test_no_patient_of_the_lesson_is_one_of_the_shipped_networks():
    config = load_maps(Path(attribution.__file__).parent / "shipped", "cpu")[1]
    assert 500_000 + config["train_images"] + config["valid_images"] < 700_000
