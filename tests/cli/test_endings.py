"""How commands end when something is wrong: one sentence and an exit code, and no promise that does not hold."""

import errno

import pytest

from scoredistill import cli


def ends(monkeypatch, capsys, error, arguments=("image",), before=lambda: None):
    def fail(_):
        before()
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return caught.value.code, said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:113] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
    ],
)
def test_out_of_memory(monkeypatch, capsys, error):
    code, said = ends(monkeypatch, capsys, error)
    assert code == 1
    assert "out of memory: use fewer" in said


def test_other_errors_of_torch_are_shown_whole(monkeypatch):
    def fail(_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(cli, "_dispatch", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        cli.main(["image"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(monkeypatch, capsys, number):
    code, said = ends(monkeypatch, capsys, OSError(number, "No space left on device", "runs/x"))
    assert code == 1
    assert said.startswith("scoredistill: the disk is full: free some space")


def test_long_messages_are_cut(monkeypatch, capsys):
    _, said = ends(monkeypatch, capsys, ValueError("x" * 10**6))
    assert len(said) < 1100


@pytest.mark.parametrize("arguments", [["image", "x"], ["edit", "x", "y"], ["object", "x"], ["demo"], ["scene"]])
def test_an_interrupt_without_a_checkpoint_promises_nothing(monkeypatch, capsys, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "runs" / "old"
    old.mkdir(parents=True)
    (old / "config.json").write_text("{}")
    assert ends(monkeypatch, capsys, KeyboardInterrupt(), arguments) == (130, "scoredistill: interrupted\n")


@pytest.mark.parametrize("out", [[], ["--out", "here"], ["--out=here"]])
def test_an_interrupt_after_a_checkpoint_says_how_to_continue(monkeypatch, capsys, tmp_path, out):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ("here" if out else "runs/x")
    folder.mkdir(parents=True)
    wrote = lambda: (folder / "checkpoint.safetensors").write_text("")
    code, said = ends(monkeypatch, capsys, KeyboardInterrupt(), ["image", "x", *out], wrote)
    assert code == 130
    assert "the same command with --resume continues" in said
    said = ends(monkeypatch, capsys, KeyboardInterrupt(), ["image", "x", *out, "--overwrite"], wrote)[1]
    assert "the same command with --resume in place of --overwrite continues" in said


def test_an_interrupted_command_ends_without_what_python_does_at_its_end(monkeypatch, capsys):
    """Only if it was typed: a caller of `main` with arguments gets a SystemExit."""

    class Left(BaseException):
        pass

    def leave(code):
        raise Left(code)

    monkeypatch.setattr("sys.argv", ["scoredistill", "image", "x"])
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(cli, "_dispatch", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Left) as left:
        cli.main()
    assert left.value.args == (130,)
    assert capsys.readouterr().err == "scoredistill: interrupted\n"
    with pytest.raises(SystemExit):
        cli.main(["image", "x"])
