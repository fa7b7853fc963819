"""The command line as a whole."""

import warnings

from scoredistill import cli


def test_warnings_are_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: warnings.warn("keys have no effect: x", stacklevel=1))
    shown = warnings.showwarning
    cli.main(["image"])
    assert capsys.readouterr().err == "scoredistill: keys have no effect: x\n"
    assert warnings.showwarning is shown
