"""Tell whose an output folder is, and whether its files are as brainmap wrote them."""

from __future__ import annotations

import json

from brainmap.errors import InputError
from brainmap.places import refuse_links_out
from brainmap.study.results.context import Context


def verify_results(context: Context) -> int:
    """Read every result of a study, compare it with what was written, and return the number of results.

    Raises
    ------
    InputError
        Results are missing or have other content.
    """
    stages = context.ledger.stages()
    wrong = sorted({path for stage in stages for path in context.ledger.damaged(stage, verify=True)})
    if wrong:
        raise InputError(
            "\n".join(
                f"results: {path} {'has changed since brainmap wrote it' if path.exists() else 'is gone'}; run the "
                "study, which makes it again"
                for path in wrong
            )
        )
    return len({path for stage in stages for path in context.ledger.files(stage)})


def check_output(context: Context) -> None:
    """Refuse an output folder that holds another study, or other files."""
    out, name = context.study.out, context.study.settings.study.name
    if out.is_file():
        raise InputError(f"[study] out: expected a folder, got the file {out}; name a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    refuse_links_out(out)
    try:
        found = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))["Study"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        if (out / ".brainmap").is_dir():
            return  # it belongs to brainmap; the description is written again
        raise InputError(
            f"[study] out: expected an empty or new folder, got {out}, whose files are not brainmap's; name another"
        ) from None
    if found != name:
        raise InputError(
            f"[study] out: {out} holds the results of another study ({found!r}, this one is {name!r}); "
            "name another folder"
        )
