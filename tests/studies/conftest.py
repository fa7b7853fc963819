"""What tests of studies share: studies that are refused."""

import pytest


@pytest.fixture
def refused_study(tmp_path):
    """A function that runs a study which must end with an error that says something, before anything is written."""

    def run(study, setting, says):
        with pytest.raises(ValueError, match=says):
            study(setting, tmp_path / "out", workers=1)
        assert not (tmp_path / "out").exists()

    return run
