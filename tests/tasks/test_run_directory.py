"""Output directories of commands without --out: no run replaces another, and the right one is resumed."""

from pathlib import Path

from scoredistill.tasks.run_directory import default_out


def test_a_run_without_out_never_replaces_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        out = default_out("An owl!", "image", "-csd")
        out.mkdir(parents=True)
        names.append(out.as_posix())
    assert names == ["runs/an_owl-csd", "runs/an_owl-csd-2", "runs/an_owl-csd-3"]
    assert default_out("An owl", "image", "-sds") == Path("runs/an_owl-sds")
    assert default_out("!", "image") == Path("runs/image")


def test_the_last_unfinished_run_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_out("owl", "image", resume=True) == Path("runs/owl")  # refused later: there is nothing to resume
    for name, finished in (("owl", False), ("owl-2", False), ("owl-3", True)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        if finished:
            (tmp_path / "runs" / name / "result.json").touch()
    assert default_out("owl", "image", resume=True) == Path("runs/owl-2")
    assert default_out("owl", "image") == Path("runs/owl-4")
    for name in ("owl", "owl-2"):
        (tmp_path / "runs" / name / "result.json").touch()
    assert default_out("owl", "image", resume=True) == Path("runs/owl-3")
