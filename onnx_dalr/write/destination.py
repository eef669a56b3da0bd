"""Where the results of a run go, and what is written there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onnx_dalr.choose.analysis import Analysis
from onnx_dalr.errors import InputError
from onnx_dalr.files import Files, ReadsAndWrites, ToWrite, same_file
from onnx_dalr.graph.storage.model import Model
from onnx_dalr.learn.statistics_set import write_set
from onnx_dalr.plan.plan import Plan
from onnx_dalr.results.result import Result
from onnx_dalr.session.session import check_path
from onnx_dalr.shown import PAGE

STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class Destination:
    """Files one run writes; None for those it does not.

    Attributes:
        output: The model.
        json: The report as JSON; "-" is standard output and none of ours.
        page: The report as an HTML page.
        force: Existing files may be replaced; a report may be in any case.
        dry_run: The model, the plan and the statistics are written nowhere that lasts.
        thumbnails: The sheet of images.
        plan: The plan.
        stats: The statistics.
        plan_option: What names the plan on the command line.
        command: The call of the run, as it can be made again.
    """

    output: Path | None = None
    json: Path | None = None
    page: Path | None = None
    force: bool = False
    dry_run: bool = False
    thumbnails: Path | None = None
    plan: Path | None = None
    stats: Path | None = None
    plan_option: str = "--save-plan"
    command: str = ""

    def check(self, original: Model, read: Sequence[Path]) -> None:
        """Finds out before the work whether everything could be written after it.

        Args:
            original: The input model.
            read: What else the run reads.

        Raises:
            InputError: Something would be overwritten, or cannot be written.
        """
        if self.output is not None:
            if original.path is not None and same_file(self.output, original.path):
                hint = "give the output another name; the original is never replaced"
                raise InputError("the output is the input", hint)
            check_path(self.output)  # it is going to be verified
        own = [original.path] if original.path else []
        ReadsAndWrites((*own, *original.data_files, *read), tuple(self._files(original))).check()

    def _files(self, original: Model) -> Iterator[ToWrite]:
        replaces = self.force or self.dry_run
        if self.output is not None:
            yield ToWrite(self.output, "", replaces, not self.dry_run)
            if original.has_external_data:
                yield ToWrite(self.output.parent / f"{self.output.name}.data", "", replaces, not self.dry_run)
        if self.json is not None and self.json != STANDARD_OUTPUT:
            yield ToWrite(self.json, "--json")
        if self.page is not None:
            yield ToWrite(self.page, "--report")
        if self.thumbnails is not None:
            yield ToWrite(self.thumbnails, "--thumbnails", self.force)
        for option, file in ((self.plan_option, self.plan), ("--save-stats", self.stats)):
            if file is not None:
                yield ToWrite(file, option, replaces)

    @contextmanager
    def place(self, files: Files) -> Iterator[Path]:
        """Where the model is written to be verified: beside its destination, or nowhere that lasts."""
        if self.output is not None and not self.dry_run:
            with files.at(self.output, force=self.force) as written:
                yield written
            return
        try:
            with tempfile.TemporaryDirectory(prefix="onnx-dalr-") as folder:
                yield Path(folder) / (self.output.name if self.output else "model.onnx")
        except OSError as error:
            raise InputError(
                f"cannot write to the temporary folder: {error.strerror or error}", "set TMPDIR to one with room"
            ) from error

    def write_beside(self, files: Files, analysis: Analysis, plan: Plan) -> None:
        """Writes statistics and plan among the files of the run, where they are asked for.

        Raises:
            InputError: One cannot be written.
        """
        if self.dry_run:
            return
        if self.stats is not None:
            with files.at(self.stats, force=self.force) as path:
                write_set(analysis.stats, path)
        if self.plan is not None:
            files.write_text(self.plan, plan.to_json(), force=self.force)

    def write_report(self, files: Files, result: Result) -> None:
        """Writes the report as JSON and as a page among the files of the run, where that is asked for.

        Raises:
            InputError: It cannot be written.
        """
        if self.json is not None and self.json != STANDARD_OUTPUT:
            files.write_text(self.json, result.to_json(), force=True)
        if self.page is not None:
            files.write_text(self.page, result.render(PAGE), force=True)
