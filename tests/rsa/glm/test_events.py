"""Events and confounds: BIDS tables, stim_times, fMRIPrep's columns; everything wrong in them is named."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.confounds import read_confounds
from brainmap.rsa.glm.events import read_events

EVENTS = pd.DataFrame({"onset": [12.0, 2.0, 30.0], "duration": 1.5, "trial_type": ["dog", "cat", "cat"]})


def stim(folder: Path, text: str, name: str = "cat") -> dict[str, Path]:
    (folder / f"{name}.1D").write_text(text)
    return {name: folder / f"{name}.1D"}


class TestTables:
    def test_a_table_is_sorted_by_onset_and_keeps_conditions(self, tmp_path: Path) -> None:
        table = EVENTS.assign(stim_file=["snd/dog_1.wav", "snd/cat_1.wav", "snd/cat_2.wav"])
        table.to_csv(tmp_path / "events.tsv", sep="\t", index=False)
        (found,) = read_events(tmp_path / "events.tsv", run_seconds=[60.0], column="stim_file")
        assert found["name"].tolist() == ["cat_1", "dog_1", "cat_2"]
        assert found["condition"].tolist() == ["cat", "dog", "cat"]
        assert found["onset"].tolist() == [2.0, 12.0, 30.0]

    def test_words_that_look_missing_are_words(self, tmp_path: Path) -> None:
        (tmp_path / "e.tsv").write_text("onset\tduration\ttrial_type\n1\t1\tno\n5\t1\tnull\n9\t1\tna\n")
        (found,) = read_events(tmp_path / "e.tsv", run_seconds=[20.0])
        assert found["name"].tolist() == ["no", "null", "na"]

    @pytest.mark.parametrize("missing", ["n/a", "NaN", "NA", "", None, np.nan, pd.NA, pd.NaT])
    @pytest.mark.parametrize("dtype", ["object", "string", "str"])
    def test_missing_names_are_the_same_from_a_file_and_from_a_table(
        self, tmp_path: Path, missing: object, dtype: str
    ) -> None:
        names = pd.Series(["cat", missing, "dog"], dtype="object")
        table = EVENTS.assign(trial_type=names if dtype == "object" or missing is pd.NaT else names.astype(dtype))
        text = missing if isinstance(missing, str) else "n/a"
        EVENTS.assign(trial_type=["cat", text, "dog"]).to_csv(tmp_path / "e.tsv", sep="\t", index=False)
        for source in (table, tmp_path / "e.tsv"):
            with pytest.warns(BrainmapWarning, match="1 of 3 rows have no trial_type"):
                (found,) = read_events(source, run_seconds=[60.0])
            assert found["name"].tolist() == ["cat", "dog"]

    def test_numbers_as_names_stay_whole_beside_a_gap(self, tmp_path: Path) -> None:
        table = EVENTS.assign(trial_type=[1, np.nan, 12])
        table.to_csv(tmp_path / "e.tsv", sep="\t", index=False)
        for source in (table, tmp_path / "e.tsv", EVENTS.assign(trial_type=pd.array([1, None, 12], dtype="Int64"))):
            with pytest.warns(BrainmapWarning, match="1 of 3 rows"):
                (found,) = read_events(source, run_seconds=[60.0])
            assert found["name"].tolist() == ["1", "12"]

    def test_what_is_left_out_needs_no_numbers_and_what_stays_is_named(self) -> None:
        table = EVENTS.assign(onset=["n/a", 2.0, 30.0], duration=["n/a", 1.5, 1.5])
        (found,) = read_events(table, run_seconds=[60.0], leave_out=["dog"])
        assert found["name"].tolist() == ["cat", "cat"]
        with pytest.raises(
            InputError,
            match=r"column 'onset': expected seconds, got 1 of 3 cells without a number \(first: 'n/a', of 'dog'",
        ):
            read_events(table, run_seconds=[60.0])

    def test_sounds_of_one_name_in_two_folders_stay_two(self) -> None:
        files = [f"stimuli/{word}/0a7c_nohash_0.wav" for word in ("dog", "cat")] + ["stimuli/cat/1b.wav"]
        (found,) = read_events(EVENTS.assign(stim_file=files), run_seconds=[60.0], column="stim_file")
        assert found["name"].tolist() == ["cat/0a7c_nohash_0", "dog/0a7c_nohash_0", "cat/1b"]

    def test_one_name_with_two_conditions_is_refused_in_a_run_and_over_runs(self) -> None:
        table = EVENTS.assign(stim_file=["a.wav", "b.wav", "a.wav"])
        for source, seconds in ((table, [60.0]), ([table[:2], table[2:]], [60.0, 60.0])):
            with pytest.raises(InputError, match="expected one condition per name, got 'cat', 'dog' for 'a'"):
                read_events(source, run_seconds=seconds, column="stim_file")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"duration": 1500.0}, "last longer than the run, 60 s; are the durations milliseconds"),
            ({"duration": 50.0}, "are the durations milliseconds"),
            ({"onset": [2.0, 12.0, 2.0], "trial_type": "cat", "duration": 0.0}, "rows repeat another row"),
            ({"onset": [2.0, 12.0, 2.0], "trial_type": "cat"}, r"1 of 3 rows repeat another row.*'cat', onset 2 s"),
        ],
    )
    def test_milliseconds_and_rows_twice_are_refused(self, change: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            read_events(EVENTS.assign(**change), run_seconds=[60.0])

    def test_one_table_with_a_column_run_serves_all_runs_in_natural_order(self) -> None:
        table = pd.concat([EVENTS.assign(run=run, trial_type=f"r{run}") for run in (10, 2)])
        first, second = read_events(table, run_seconds=[60.0, 60.0])
        assert (set(first["name"]), set(second["name"])) == ({"r2"}, {"r10"})

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"onset": [2.0, 61.0, 3.0]}, "1 of 3 events begin after the end of the run at 60 s"),
            ({"onset": [2000.0, 61000.0, 3000.0]}, "milliseconds"),
            ({"onset": [-30.0, 1.0, 2.0]}, "before the first volume"),
            ({"duration": [1.0, -1.0, 1.0]}, "negative duration"),
            ({"onset": ["a", 1, 2]}, "cells without a number"),
            ({"duration": ["n/a", 1, 2]}, r"cells without a number.*glm = \{ duration = 1.5 \}"),
            ({"duration": ["long", 1, 2]}, r"cells without a number \(first: 'long', of 'dog', onset 12\)$"),
        ],
    )
    def test_impossible_times_are_refused_with_the_event(self, change: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            read_events(EVENTS.assign(**change), run_seconds=[60.0])

    def test_missing_columns_empty_tables_and_counts_are_refused(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty.tsv"
        empty.write_text("")
        for source, seconds, said in (
            (
                EVENTS.rename(columns={"trial_type": "trialtype"}),
                [60.0],
                "expected a column 'trial_type'.*did you mean",
            ),
            (EVENTS.drop(columns="duration"), [60.0], "expected a column 'duration'"),
            (EVENTS[:0], [60.0], "got an empty table"),
            (empty, [60.0], "expected a tab-separated table"),
            (tmp_path / "none.tsv", [60.0], "no file"),
            (EVENTS, [60.0, 60.0], "needs a column 'run'"),
            ([EVENTS, EVENTS], [60.0], "each of 1 runs, got 2 tables"),
        ):
            with pytest.raises(InputError, match=said):
                read_events(source, run_seconds=seconds)

    def test_what_is_allowed_and_changes_numbers_is_said(self) -> None:
        for table, said in (
            (EVENTS.assign(onset=[12.0, 2.0, 3.0]), r"overlap, .*'cat \(1\)'"),
            (EVENTS.assign(duration=0.0), "duration 0 of 'cat', 'dog'"),
            (EVENTS.assign(modulation=2.0), "'modulation' is not used"),
            (EVENTS.assign(trial_type=["n/a", "cat", "dog"]), "1 of 3 rows have no trial_type"),
        ):
            with pytest.warns(BrainmapWarning, match=said):
                read_events(table, run_seconds=[60.0])

    def test_missing_durations_are_those_given_and_are_counted(self) -> None:
        table = EVENTS.assign(duration=["n/a", 2.5, "n/a"])
        with pytest.warns(BrainmapWarning, match=r"2 of 3 durations are n/a and are taken as the given 1\.5 s"):
            (found,) = read_events(table, run_seconds=[60.0], duration=1.5)
        assert found["duration"].tolist() == [2.5, 1.5, 1.5]
        with pytest.warns(BrainmapWarning, match="2 of 3 durations are n/a and are taken from those given by name"):
            (found,) = read_events(table, run_seconds=[60.0], duration={"cat": 3.0, "dog": 0.5})
        assert found["duration"].tolist() == [2.5, 0.5, 3.0]
        with pytest.raises(InputError, match=r"1 of 3 cells without a number .*'dog'"):
            read_events(table, run_seconds=[60.0], duration={"cat": 3.0})
        with pytest.raises(InputError, match=r"got 1 of 3 cells without a number .*'long'"):
            read_events(EVENTS.assign(duration=["long", 1, 2]), run_seconds=[60.0], duration=1.5)

    def test_rows_without_a_sound_are_named_by_their_trial_type_where_this_is_asked_for(self) -> None:
        table = EVENTS.assign(trial_type=["button", "cat", "cat"], stim_file=["n/a", "snd/cat_1.wav", "snd/cat_2.wav"])
        (found,) = read_events(table, run_seconds=[60.0], column="stim_file", nuisance=["button"])
        assert found["name"].tolist() == ["cat_1", "button", "cat_2"]
        (found,) = read_events(table, run_seconds=[60.0], column="stim_file", leave_out=["button"])
        assert found["name"].tolist() == ["cat_1", "cat_2"]
        with pytest.warns(BrainmapWarning, match=r"1 of 3 rows have no stim_file .*\(trial_type 'button'\).*nuisance"):
            (found,) = read_events(table, run_seconds=[60.0], column="stim_file")
        assert found["name"].tolist() == ["cat_1", "cat_2"]

    def test_a_duration_of_zero_is_noted_only_of_events_that_have_betas(self) -> None:
        table = EVENTS.assign(duration=[0.0, 1.5, 1.5])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_events(table, run_seconds=[60.0], nuisance=["dog"])

    def test_names_can_be_left_out_and_misspelt_ones_are_refused(self) -> None:
        (found,) = read_events(EVENTS, run_seconds=[60.0], leave_out=["dog"])
        assert set(found["name"]) == {"cat"}
        with pytest.raises(InputError, match="did you mean 'dog'"):
            read_events(EVENTS, run_seconds=[60.0], leave_out=["dogg"])
        with pytest.raises(InputError, match="no event is left"):
            read_events(EVENTS, run_seconds=[60.0], leave_out=["dog", "cat"])


class TestStimTimes:
    def test_a_misspelt_name_to_leave_out_is_refused(self, tmp_path: Path) -> None:
        files = stim(tmp_path, "1 2\n") | stim(tmp_path, "5 9\n", "rest")
        (found,) = read_events(files, run_seconds=[60.0], duration=1.0, leave_out=["rest"])
        assert set(found["name"]) == {"cat"}
        with pytest.raises(InputError, match="got 'rset'; did you mean 'rest'"):
            read_events(files, run_seconds=[60.0], duration=1.0, leave_out=["rset"])

    def test_rows_are_runs_and_stars_are_runs_without_events(self, tmp_path: Path) -> None:
        files = stim(tmp_path, "# made by hand\n2.5 20:4\n*\n7 *\n") | stim(tmp_path, "1\n2 *\n3\n", "dog")
        runs = read_events(files, run_seconds=[60.0] * 3, duration={"cat": 1.5, "dog": 2.0})
        assert [list(zip(r["name"], r["onset"], r["duration"], strict=True)) for r in runs] == [
            [("dog", 1.0, 2.0), ("cat", 2.5, 1.5), ("cat", 20.0, 4.0)],
            [("dog", 2.0, 2.0)],
            [("dog", 3.0, 2.0), ("cat", 7.0, 1.5)],
        ]

    def test_minus_one_alone_in_a_row_is_no_event(self, tmp_path: Path) -> None:
        for text in ("2.5 20\n-1\n7\n", "2.5 20\n-1 *\n7\n", "2.5 20\n-1:1 *\n7\n"):
            files = stim(tmp_path, text) | stim(tmp_path, "1\n2 *\n3\n", "dog")
            with pytest.warns(BrainmapWarning, match=r"-1 alone in the row of run 2 is read as no event"):
                runs = read_events(files, run_seconds=[60.0] * 3, duration=1.0)
            assert [run["name"].tolist().count("cat") for run in runs] == [2, 0, 1]

    def test_one_time_a_row_is_from_the_start_of_the_first_run(self, tmp_path: Path) -> None:
        runs = read_events(stim(tmp_path, "5\n55\n65\n110\n"), run_seconds=[60.0, 60.0], duration=1.0)
        assert [r["onset"].tolist() for r in runs] == [[5.0, 55.0], [5.0, 50.0]]
        (one,) = read_events(stim(tmp_path, "5\n55\n"), run_seconds=[60.0], duration=1.0)
        assert one["onset"].tolist() == [5.0, 55.0]

    @pytest.mark.parametrize(
        ("text", "duration", "said"),
        [
            ("5\n7\n", 1.0, "could be times of each run"),
            ("5 6\n7 8\n", None, "no durations"),
            ("5*3 6\n7 8\n", 1.0, "amplitude"),
            ("5*3,2:4 6\n7 8\n", 1.0, "amplitude"),
            ("5 6\n7 8\n9 10\n", 1.0, "each of 2 runs .* got 3"),
            ("5 x\n7 8\n", 1.0, "got 'x'"),
            ("5 99\n7 8\n", 1.0, "after the end of the run"),
            ("5 6\n7:-3 8\n", 1.0, "negative duration"),
            ("5 6\n* *\n", 1.0, "no event is left"),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, tmp_path: Path, text: str, duration: float | None, said: str) -> None:
        with pytest.raises(InputError, match=said):
            read_events(stim(tmp_path, text), run_seconds=[60.0, 60.0], duration=duration)


def fmriprep(n: int = 20) -> pd.DataFrame:
    """A table with the columns fMRIPrep writes."""
    rng = np.random.default_rng(0)
    motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    names = [f"{m}{s}" for m in motion for s in ("", "_derivative1", "_power2", "_derivative1_power2")]
    names += ["csf", "white_matter", "global_signal", "framewise_displacement", "cosine00", "std_dvars"]
    names += [f"{kind}_comp_cor_{k:02d}" for kind in "at" for k in range(12)]
    table = pd.DataFrame(rng.normal(size=(n, len(names))), columns=names)
    table["framewise_displacement"] = 0.1
    table.loc[[4, 9], "framewise_displacement"] = [0.6, 1.2]
    table.loc[0, [c for c in names if "derivative1" in c or c in ("framewise_displacement", "std_dvars")]] = np.nan
    table["non_steady_state_outlier00"] = np.eye(n)[0]
    return table


class TestConfounds:
    @pytest.mark.parametrize(
        ("strategy", "n"),
        [
            ("motion6", 6),
            ("motion12", 12),
            ("motion24", 24),
            ("csf-wm", 2),
            ("motion6+global", 7),
            ("acompcor", 5),
            ("acompcor8", 8),
            ("tcompcor3", 3),
            ("scrub", 2),
            ("scrub1.0", 1),
            ("cosine", 1),
            ("non-steady", 1),
            (["csf", "trans_*"], 13),
            ("motion6,trans_x", 6),
        ],
    )
    @pytest.mark.filterwarnings("ignore:confounds of run 1. .* no value in the first")
    def test_strategies_choose_fmriprep_s_columns(self, tmp_path: Path, strategy: object, n: int) -> None:
        path = tmp_path / "sub-01_desc-confounds_timeseries.tsv"
        fmriprep().to_csv(path, sep="\t", index=False, na_rep="n/a")
        assert read_confounds(path, n_volumes=20, strategy=strategy).shape == (20, n)

    def test_the_first_value_of_derivatives_is_set_to_zero_and_said(self) -> None:
        with pytest.warns(BrainmapWarning, match="6 columns have no value in the first volume"):
            found = read_confounds(fmriprep(), n_volumes=20, strategy="motion12")
        raw = fmriprep()["trans_x_derivative1"].fillna(0.0)
        np.testing.assert_allclose(found["trans_x_derivative1"], (raw - raw.mean()) / raw.std(ddof=0))

    def test_of_several_masks_the_combined_components_are_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "c.tsv"
        fmriprep().to_csv(path, sep="\t", index=False, na_rep="n/a")
        masks = {f"a_comp_cor_{k:02d}": {"Mask": "CSF" if k < 4 else "combined"} for k in range(12)}
        path.with_suffix(".json").write_text(json.dumps(masks))
        found = read_confounds(path, n_volumes=20, strategy="acompcor3")
        assert found.columns.tolist() == [f"a_comp_cor_{k:02d}" for k in (4, 5, 6)]

    @pytest.mark.parametrize("count", [20, 99, 100, 150])
    def test_the_first_components_are_taken_however_many_there_are(self, count: int) -> None:
        names = [f"a_comp_cor_{k:02d}" for k in range(count)]
        table = pd.DataFrame(np.random.default_rng(0).normal(size=(20, count)), columns=names)
        found = read_confounds(table[sorted(names)], n_volumes=20, strategy="acompcor20")
        assert found.columns.tolist() == [f"a_comp_cor_{k:02d}" for k in range(20)]

    def test_scrubbed_volumes_have_a_regressor_each(self) -> None:
        found = read_confounds(fmriprep(), n_volumes=20, strategy="scrub")
        np.testing.assert_array_equal(found.to_numpy(), np.eye(20)[:, [4, 9]])

    def test_afni_s_files_are_columns_and_censor_files_volumes(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).normal(size=(20, 3))
        np.savetxt(tmp_path / "dfile.r01.1D", values, header="roll pitch yaw")
        np.savetxt(tmp_path / "censor_run.1D", np.arange(20) != 7, fmt="%d")
        found = read_confounds([tmp_path / "dfile.r01.1D", tmp_path / "censor_run.1D"], n_volumes=20)
        assert found.columns.tolist() == ["dfile.r01[0]", "dfile.r01[1]", "dfile.r01[2]", "volume7"]
        np.testing.assert_allclose(found.iloc[:, :3], (values - values.mean(0)) / values.std(0))

    def test_columns_that_do_not_vary_are_left_out_and_said(self) -> None:
        table = pd.DataFrame({"x": np.arange(5.0), "flat": 3.0, "none": 0.0})
        with pytest.warns(BrainmapWarning, match="'flat', 'none' do not vary"):
            assert read_confounds(table, n_volumes=5).columns.tolist() == ["x"]

    def test_what_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "words.1D").write_text("1 2\n3 x\n")
        (tmp_path / "censor.1D").write_text("1\n2\n")
        late = fmriprep()
        late.loc[5, "csf"] = np.nan
        for source, given, said in (
            (fmriprep(), {}, "choose some: strategy="),
            (fmriprep(), {"strategy": "aroma"}, "expected the columns 'aroma_motion_"),
            (fmriprep(), {"strategy": "motion7"}, "did you mean 'motion"),
            (fmriprep().drop(columns="csf"), {"strategy": "csf-wm"}, "expected the columns 'csf'"),
            (fmriprep(), {"strategy": "acompcor20"}, "at least 20 columns a_comp_cor"),
            (fmriprep(), {"strategy": "motion6+"}, "joined by"),
            (late, {"strategy": "csf"}, "NaN or infinity in 'csf', volume 5"),
            (fmriprep(19), {"strategy": "csf"}, "one for each of 20 volumes of the run, got 19"),
            (tmp_path / "words.1D", {}, "expected a table of numbers"),
            (tmp_path / "none.1D", {}, "no file"),
            ([np.ones((20, 1)), np.ones((20, 1))], {}, "more than one file"),
        ):
            with pytest.raises(InputError, match=said):
                read_confounds(source, n_volumes=20, **given)
        with pytest.raises(InputError, match="one column of 0"):
            read_confounds(tmp_path / "censor.1D", n_volumes=2)
