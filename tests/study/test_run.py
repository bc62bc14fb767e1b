"""Ways to run a study: in pieces, with more threads, in native space, with one participant, and its page again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

ROIS_ONLY = ("[searchlight]\nradius_mm = 6.0\n", "")
SILENT = ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", "")


def scores(study: Any, participant: str) -> pd.DataFrame:
    (path,) = study.out.glob(f"sub-{participant}/func/*_scores.tsv")
    return pd.read_csv(path, sep="\t")


def content(study: Any) -> Any:
    """What the page of a study would show."""
    from brainmap.study.run import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.page import read_page_content

    return read_page_content(Context(load_study(study.file)))


@pytest.mark.bits
@pytest.mark.slow
def test_participants_one_by_one_on_two_threads_end_as_all_at_once(tiny_study: Any, tiny_results: Any) -> None:
    assert tiny_study.run("01", jobs=2) == {
        "description",
        "network-net",
        "maps",
        "sub-01_rois",
        "sub-01_searchlight",
    }
    assert not (tiny_study.out / "group").exists()
    assert tiny_study.run("02", "03", jobs=2) == {f"sub-0{k}_{s}" for k in (2, 3) for s in ("rois", "searchlight")}
    computed = tiny_study.run(jobs=2)
    assert not any(stage.startswith(("sub", "network")) for stage in computed)
    assert tiny_study.files() == tiny_results.files()


def shift(path: Path, to: Path) -> None:
    image = nib.load(path)
    values, affine = np.asarray(image.dataobj), image.affine.copy()
    affine[0, 3] += 30
    moved = nib.Nifti1Image(values, affine, image.header)
    moved.set_sform(affine)
    moved.set_qform(affine)
    nib.save(moved, to)


def test_native_grids_give_roi_results_and_a_page_without_group_maps(
    tiny_study: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (tiny_study.folder / "sub-03").iterdir():
        shift(path, path)
    shift(tiny_study.folder / "rois.nii.gz", tiny_study.folder / "rois03.nii.gz")
    first, second = tiny_study.file.read_text().split('participants = ["03"]')
    second = second.replace('"rois.nii.gz"', '"rois03.nii.gz"')
    tiny_study.file.write_text(f'{first}participants = ["03"]{second}')
    tiny_study.edit(("MNI152Lin", "native"), SILENT)
    with caplog.at_level(logging.INFO, logger="brainmap"):
        computed = tiny_study.run()
    assert "group_rois" in computed
    assert "report" in computed
    assert "group_maps" not in computed
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("group maps")]
    assert "'native' space" in line
    assert "sub-*/func/*_statmap" in line
    assert len(list(tiny_study.out.glob("sub-03/func/*trained*_statmap.nii.gz"))) == 3
    statistics = pd.read_csv(tiny_study.out / "group" / "statistics.tsv", sep="\t")
    assert len(statistics) == 9
    shown = content(tiny_study)
    assert shown.maps == {}
    assert len(shown.statistics) == 9


def test_one_participant_has_scores_tests_by_relabeling_and_a_page(tiny_study: Any) -> None:
    text = tiny_study.file.read_text()
    head, _, rest = text.split("[[brain]]")
    tiny_study.file.write_text(f"{head}[[brain]]{rest}")
    tiny_study.edit(ROIS_ONLY, SILENT)
    tiny_study.run()
    assert len(scores(tiny_study, "03")) == 9
    shown = content(tiny_study)
    assert shown.statistics["n"].eq(1).all()
    assert shown.tested.startswith("relabeling test (4 whole conditions exchanged, their 2 tokens alike in all), ")
    assert len(shown.scores) == 9
    assert shown.maximization == []


def test_report_makes_the_page_again_from_the_results_folder(
    finished: Any, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    before = {name: text for name, text in finished.files().items() if name.startswith(("sub-", "group", "rdms"))}
    code, out, said = lines_of("report", finished.out)
    assert code == 0, said
    assert out[-1] == f"The page: {finished.out / 'report.html'}"
    page = (finished.out / "report.html").read_text()
    assert "simulated" in page.lower()
    for shown in ("conv3", "left-a", "crossnobis"):
        assert shown in page
    assert len(list((finished.out / "figures").iterdir())) >= 4
    after = finished.files()
    assert {name: after[name] for name in before} == before


def test_report_says_what_is_gone(finished: Any, lines_of: Callable[..., tuple[int, list[str], list[str]]]) -> None:
    (path,) = finished.out.glob("sub-02/func/*_scores.tsv")
    path.unlink()
    code, _, said = lines_of("report", finished.file)
    assert code == 2
    assert len(said) == 1
    assert path.name in said[0]


def test_each_stage_is_one_line_and_a_run_with_nothing_to_do_is_one(
    finished: Any, caplog: pytest.LogCaptureFixture
) -> None:
    finished.edit(('measure = "rho-a"', 'measure = "cosine"'))
    with caplog.at_level(logging.INFO, logger="brainmap"):
        finished.run()
        lines = [r.getMessage() for r in caplog.records]
        assert sum("sub-02: rois: done in" in line for line in lines) == 1
        assert lines[-1].endswith("computed before from the same inputs")
        caplog.clear()
        finished.run()
    (line,) = [r.getMessage() for r in caplog.records if not r.getMessage().startswith("note: ")]
    assert line == "15 stages need nothing, because they were computed before from the same inputs"


def test_long_silence_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    from brainmap.progress import heartbeat

    with caplog.at_level(logging.INFO, logger="brainmap"), heartbeat("thinking", every=0.05):
        time.sleep(0.4)
    assert sum("thinking: going on" in r.getMessage() for r in caplog.records) >= 2


def test_planted_regions_are_compared_with_what_was_found(tiny_study: Any) -> None:
    (tiny_study.folder / "truth.tsv").write_text("region\tlayer\nleft-a\tconv1\nbelt\t\n")
    tiny_study.file.write_text(tiny_study.file.read_text() + '\n[truth]\ntable = "truth.tsv"\n')
    tiny_study.edit(SILENT)
    assert "group_recovery" in tiny_study.run()
    table = pd.read_csv(tiny_study.out / "group" / "recovery.tsv", sep="\t", na_values="n/a")
    assert list(table["region"]) == ["left-a", "belt"]
    assert table["planted"].tolist()[0] == "conv1"
    (tiny_study.folder / "truth.tsv").write_text("region\tlayer\nleft-a\tconv3\nbelt\t\n")
    assert tiny_study.run() == {"group_recovery", "report"}


def test_controls_are_networks_of_their_own_and_follow_the_seed(tiny_study: Any) -> None:
    tiny_study.edit(('layers = ["conv1"', 'controls = ["untrained", "permuted"]\nlayers = ["conv1"'), ROIS_ONLY, SILENT)
    tiny_study.run("03")
    table = scores(tiny_study, "03")
    assert set(table["network"]) == {"net", "net-untrained", "net-permuted"}
    means = table.groupby("network")["score"].apply(list)
    assert means["net"] != means["net-untrained"] != means["net-permuted"]
    tiny_study.edit(("seed = 0", "seed = 1"))
    assert tiny_study.run("03") == {"network-net-untrained", "network-net-permuted", "sub-03_rois"}


def test_conditions_as_items_average_the_tokens(tiny_study: Any) -> None:
    tiny_study.edit(("[rsa]\n", '[rsa]\nitems = "condition"\n'), ROIS_ONLY, SILENT)
    tiny_study.run("03")
    from rsatoolbox.rdm import load_rdm

    (path,) = tiny_study.out.glob("sub-03/func/*_rdms.h5")
    assert load_rdm(str(path), file_type="hdf5").n_cond == 4


def test_files_of_rdms_hold_items_in_the_order_of_the_table_so_that_rsatoolbox_compares_them(tiny_study: Any) -> None:
    from rsatoolbox.rdm import compare, load_rdm

    table = pd.read_csv(tiny_study.folder / "stimuli.tsv", sep="\t").iloc[[6, 0, 5, 2, 7, 1, 4, 3]]
    table.to_csv(tiny_study.folder / "stimuli.tsv", sep="\t", index=False)
    tiny_study.edit(ROIS_ONLY, SILENT)
    tiny_study.run("03")
    files = [*tiny_study.out.glob("rdms/network-*_rdms.h5"), *tiny_study.out.glob("sub-03/func/*_rdms.h5")]
    models, brains = (load_rdm(str(path), file_type="hdf5") for path in files)
    for one in (models, brains):
        assert list(one.pattern_descriptors["stimulus_id"]) == list(table["stimulus_id"])
        assert list(one.pattern_descriptors["condition"]) == list(table["condition"])
    told = scores(tiny_study, "03")["score"].to_numpy().reshape(models.n_rdm, brains.n_rdm)
    np.testing.assert_allclose(compare(models, brains, method="rho-a"), told, atol=1e-12)


def test_labels_from_tables_and_weights_from_a_state_dict_give_the_same_scores(
    tiny_study: Any, tiny_results: Any
) -> None:
    import torch

    from brainmap.features.networks.checkpoints import load_network
    from brainmap.rsa.images.files import sub_brick_labels

    for participant in ("01", "02", "03"):
        for run in (1, 2, 3):
            table = pd.DataFrame({"stimulus_id": sub_brick_labels(tiny_study.betas(participant, run))})
            table.to_csv(tiny_study.folder / f"labels_{participant}_{run}.tsv", sep="\t", index=False)
    torch.save(load_network(tiny_study.folder / "net.safetensors").state_dict(), tiny_study.folder / "net.pt")
    (tiny_study.folder / "mynet.py").write_text(
        "from brainmap.features.networks.zoo import build_network\n"
        f"def build():\n    return build_network('ch32', n_classes=4, n_samples={2400})\n"
    )
    fed = 'checkpoint = "net.pt"\narchitecture = "mynet:build"\nrate = 16000\nseconds = 0.15\nlevel = "rms"'
    tiny_study.edit(('checkpoint = "net.safetensors"', fed), ROIS_ONLY, SILENT)
    tiny_study.edit(("mask = ", 'labels = "labels_{participant}_{run}.tsv"\nmask = '))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_study.folder)
        tiny_study.run("01", "03")
    for participant in ("01", "03"):
        pd.testing.assert_frame_equal(scores(tiny_study, participant), scores(tiny_results, participant))


@pytest.mark.parametrize(
    ("wanted", "backend", "device"),
    [("cuda", "threads", "auto"), ("cuda", "dask", "cpu"), ("auto", "threads", "cpu"), ("cpu", "threads", "cpu")],
)
def test_spheres_are_on_a_graphics_card_where_the_run_is_told_so(wanted: str, backend: str, device: str) -> None:
    from brainmap.study.stages.participants import Person

    context: Any = SimpleNamespace(device_wanted=wanted, backend=backend)
    nobody: Any = None
    assert Person(context, nobody)._light_device == device
