"""What `check` found as JUnit XML: a test case for every budget, in a test suite for every model."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

from onnx_dalr.errors import one_line
from onnx_dalr.report.amounts import sentence
from onnx_dalr.report.check import details, heading, moved, named, shown
from onnx_dalr.results.check import BudgetLine, CheckResult


def as_junit(found: CheckResult) -> str:
    """An XML document in ASCII, whatever it is written to; names hold no character that XML does not take."""
    root = ElementTree.Element("testsuites", _counts(found.lines, name="onnx-dalr check"))
    for model in found.models:
        lines = tuple(line for line in found.lines if line.model == model)
        suite = ElementTree.SubElement(root, "testsuite", _counts(lines, name=one_line(model)))
        seen: Counter[str] = Counter()
        for line in lines:
            seen[line.budget] += 1
            again = f" {seen[line.budget]}" if seen[line.budget] > 1 else ""
            _case(suite, line, f"{line.budget}{again}")
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode() + "\n"


def _counts(lines: tuple[BudgetLine, ...], name: str) -> dict[str, str]:
    failures = sum(not line.passed for line in lines)
    return {"name": name, "tests": str(len(lines)), "failures": str(failures), "errors": "0", "time": "0"}


def _case(suite: ElementTree.Element, line: BudgetLine, name: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": one_line(line.model), "name": name, "time": "0"})
    said = one_line(sentence(line))
    if line.passed:
        ElementTree.SubElement(case, "system-out").text = "\n".join((said, *map(one_line, line.notes)))
        return
    failure = ElementTree.SubElement(case, "failure", {"message": said, "type": "over budget"})
    rows = [f"{what}: {words}" for what, words in details(line)]
    for one in shown(line):
        grown, both = moved(line, one)
        rows.append(f"{heading(line)}: {named(one)} {grown}{f' ({both})' if both else ''}")
    failure.text = "\n".join(map(one_line, rows))
