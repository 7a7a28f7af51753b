"""Progress while data are made: a bar on a terminal, lines in a log."""

from __future__ import annotations

import pytest

from poco_ros.data import progress


def test_a_log_gets_lines_and_no_control_characters(
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINES_EVERY", 0.0)
    with progress.progress_bar("demonstrations", 4, done=1) as advance:
        advance(1, 20)
        advance(2, 30)
    told = capsys.readouterr().out
    assert "demonstrations: 2/4\ndemonstrations: 4/4\n" in told
    assert "\x1b" not in told and "\r" not in told


def test_what_is_not_to_be_shown_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar("demonstrations", 4, shown=False) as advance:
        advance(4, 50)
    assert not capsys.readouterr().out.strip()
