"""Several prompts and seeds, dry runs, and repeated runs, with runs that write their files without a model."""

import json
from pathlib import Path

import pytest
from PIL import Image

from scoredistill import cli
from scoredistill.cli import image as command
from scoredistill.cli.commands import COMMANDS
from scoredistill.cli.options import CommandPlan, ending, values
from scoredistill.cli.parameters import parameters
from scoredistill.cli.repeat import command_of, repeated, run_of
from scoredistill.cli.runs import variants
from scoredistill.files import write_json
from scoredistill.media.images import save_image
from scoredistill.tasks.image_generation.request import Request


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Runs in a directory of their own that write an image of their seed; those that were made."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def make(request, run, out):
        if getattr(make, "stopped_at", None) == len(seen):
            raise OSError("the disk is gone")
        settings = Request(**values(request)).complete()
        seen.append((request.prompt, request.seed, settings.steps))
        out.mkdir(parents=True, exist_ok=True)
        line = f"scoredistill image {request.prompt!r} --seed {request.seed} --method ddim"
        write_json(out / "config.json", {"request": vars(settings), "version": "1", "command": line})
        save_image(Image.new("RGB", (8, 8), (request.seed, 0, 0)), out / "image_00.png")
        write_json(out / "result.json", {"clip_sim": [40.0 + request.seed], "rows": 60, "calls": 30, "seconds": 1.0})
        return ending("1 image(s)", out, "", [out / "image_00.png"])

    monkeypatch.setattr(command, "_make", make)
    seen_and_make = type("Made", (), {"seen": seen, "make": make})
    return seen_and_make


LINE = ["image", "--prompts", "a cat", "an owl", "--seeds", "2", "--seed", "3", "--method", "ddim"]


def test_every_prompt_and_seed_gets_a_run_and_all_of_them_a_page(made, capsys):
    cli.main([*LINE, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert [pair[:2] for pair in made.seen] == [("a cat", 3), ("a cat", 4), ("an owl", 3), ("an owl", 4)]
    place = Path("runs/a_cat_and_1_more-ddim")
    names = [f"{name}-seed{seed}" for name in ("a_cat", "an_owl") for seed in (3, 4)]
    assert [run["out"] for run in answer["runs"]] == [str(place / name) for name in names]
    assert [run["score"] for run in answer["runs"]] == [43.0, 44.0, 43.0, 44.0]
    assert answer["seconds"] == 4.0
    page = (place / "index.html").read_text()
    for name in names:
        assert f'href="{name}' in page
    with Image.open(place / "grid.png") as grid:  # two rows of two
        assert grid.getpixel((10, 10))[0] == 3
        assert grid.getpixel((grid.width - 10, 10))[0] == 4
    config = json.loads((place / "config.json").read_text())["request"]
    assert (config["prompts"], config["seed"], config["seeds"]) == (["a cat", "an owl"], 3, 2)
    assert f'href="{place.name}/index.html"' in Path("runs/index.html").read_text()


def test_an_interrupted_batch_is_continued_without_what_is_finished(made, capsys, refused):
    made.make.stopped_at = 3
    assert "the disk is gone" in refused(*LINE, "--out", "here", code=1)
    assert not Path("here/result.json").exists()
    assert "holds an interrupted run: add --resume" in refused(*LINE, "--out", "here")
    assert "another prompts" in refused("image", "--prompts", "a dog", "an owl", *LINE[4:], "--out", "here", "--resume")
    made.make.stopped_at = None
    cli.main([*LINE, "--out", "here", "--resume"])
    assert [pair[:2] for pair in made.seen] == [("a cat", 3), ("a cat", 4), ("an owl", 3), ("an owl", 4)]
    assert "4 runs: here/index.html" in capsys.readouterr().out
    assert "already finished" in refused(*LINE, "--out", "here", "--resume")


def test_prompts_of_a_file_and_of_the_same_name(made, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat!\n\n  an owl \na cat\nan owl\n", encoding="utf-8-sig")
    cli.main(["image", "--prompts", "prompts.txt", "--method", "ddim"])
    assert [pair[0] for pair in made.seen] == ["a cat!", "an owl", "a cat"]
    folders = {path.name for path in Path("runs/a_cat_and_2_more-ddim").iterdir() if path.is_dir()}
    assert folders == {"a_cat-seed0", "an_owl-seed0", "a_cat-2-seed0"}


def test_one_prompt_with_seeds(made):
    cli.main(["image", "a cat", "--seeds", "2"])
    assert Path("runs/a_cat_2_seeds-msd/a_cat-seed1/image_00.png").is_file()
    assert variants(Request("a cat", seed=5), "prompt", CommandPlan(seeds=2)) == [
        Request("a cat", seed=5),
        Request("a cat", seed=6),
    ]


def test_a_dry_run_does_nothing_and_says_what_it_would_do(made, capsys, refused):
    cli.main(["image", "a cat", "--method", "sds", "--dry-run"])
    said = capsys.readouterr().out
    assert "would make 1 run in runs/a_cat-sds; nothing is done" in said
    assert "800 in 400 calls" in said
    assert "image_00.png" in said
    cli.main([*LINE, "--dry-run", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["runs"], answer["rows"], answer["calls"], answer["steps"]) == (4, 240, 120, 120)
    assert answer["settings"][0]["guidance"] == 5.0
    assert "steps must be a whole number of at least 1" in refused("image", "a cat", "--steps", "0", "--dry-run")
    assert "there is no file" in refused("edit", "missing.png", "make it night", "--dry-run")
    assert made.seen == []
    assert list(Path().iterdir()) == []


def test_presets_change_the_length_unless_it_is_given(made, refused):
    for more in ([], ["--preset", "draft"], ["--preset", "best"], ["--steps", "7"]):
        cli.main(["image", "a cat", "--method", "ddim", *more])
    assert [steps for _, _, steps in made.seen] == [30, 10, 60, 7]
    assert "preset best sets steps" in refused("image", "a cat", "--method", "ddim", "--preset", "best", "--steps", "7")


def test_a_preset_replaces_the_length_of_a_repeated_run(made):
    cli.main(["image", "a cat", "--method", "ddim", "--steps", "7", "--out", "first"])
    cli.main(["image", "--config", "first", "--preset", "best"])
    cli.main(["image", "--config", "first"])
    assert [steps for _, _, steps in made.seen] == [7, 60, 7]


def test_a_run_is_repeated_from_its_config(made, capsys):
    cli.main(["image", "a cat", "--method", "ddim", "--seed", "5", "--out", "first"])
    capsys.readouterr()
    for place in ("first", "first/config.json"):
        cli.main(["image", "--config", place])
        assert made.seen[-1] == made.seen[0]
    assert capsys.readouterr().err == ""
    cli.main(["image", "--config", "first", "--seed", "6", "--method", "ddim"])
    assert made.seen[-1] == ("a cat", 6, 30)
    assert capsys.readouterr().err == "scoredistill: as in first, but for --seed\n"
    cli.main(["image", "a dog", "--config=first"])
    assert made.seen[-1] == ("a dog", 5, 30)
    cli.main(["--config", "first"])
    assert made.seen[-1] == made.seen[0]


def test_a_batch_and_one_of_its_runs_are_repeated(made):
    cli.main(LINE)
    batch = Path("runs/a_cat_and_1_more-ddim")
    before = [*made.seen]
    made.seen.clear()
    cli.main(["image", "--config", str(batch)])
    assert made.seen == before
    made.seen.clear()
    cli.main(["image", "--config", str(batch / "an_owl-seed4")])
    assert made.seen == [("an owl", 4, 30)]


def test_configs_that_cannot_be_repeated_are_refused(made, refused):
    cli.main(["image", "a cat", "--method", "ddim", "--out", "first"])
    assert "first is of scoredistill image, not object: repeat it with that" in refused("object", "--config", "first")
    assert "missing.json does not exist" in refused("image", "--config", "missing.json")
    Path("other.json").write_text("{}")
    assert "other.json is not the config.json of a run" in refused("image", "--config", "other.json")
    assert "nowhere holds no run" in refused("--config", "nowhere")


def test_methods_in_files_that_only_a_config_names_are_not_executed(made, refused):
    Path("evil.py").write_text("raise SystemExit('executed')")
    cli.main(["image", "a cat", "--method", "ddim", "--out", "first"])
    kept = json.loads(Path("first/config.json").read_text())
    request, evil = kept["request"], {"method": "evil.py:M"}
    for odd in (
        {"method_file": "evil.py:M"},
        {"command": "scoredistill image cat --method evil.py:M"},
        {"request": {**request, **evil}},
        {"request": {**request, "options": evil}},
        {"prior_options": evil},
    ):
        Path("first/config.json").write_text(json.dumps({**kept, **odd}))
        said = refused("image", "--config", "first")
        assert "the run used a method in a file, evil.py:M: give --method evil.py:M to execute that file" in said
    Path("first/config.json").write_text(json.dumps(kept))
    cli.main(["image", "--config", "first", "--method", "ddim"])
    assert made.seen[-1] == made.seen[0]


def test_texts_behind_two_dashes_are_no_options(made, capsys):
    cli.main(["image", "--method", "ddim", "--", "-h"])
    assert made.seen[-1][0] == "-h"
    cli.main(["image", "--method", "ddim", "--", "--config=x"])
    assert made.seen[-1][0] == "--config=x"
    cli.main(["image", "--method", "ddim", "--out", "dash", "--", "--method=zzz"])
    assert made.seen[-1][0] == "--method=zzz"
    kept = json.loads(Path("dash/config.json").read_text())
    Path("dash/config.json").write_text(json.dumps({**kept, "command": "python script.py"}))
    cli.main(["image", "--config", "dash"])
    assert made.seen[-1] == made.seen[-2]
    cli.main(["image", "--method", "ddim", "--", "-q"])
    assert made.seen[-1][0] == "-q"


def test_a_prompt_that_is_given_twice_is_made_once(made):
    cli.main(["image", "--method", "ddim", "--prompts", "a cat", "a cat", "an owl", "--out", "set"])
    assert [text for text, *_ in made.seen] == ["a cat", "an owl"]


def config(command, **request):
    return {"request": request, "version": "1", "command": command}


def test_runs_of_python_are_repeated_from_their_settings(tmp_path, monkeypatch):
    """The source of an edit is the copy that the run keeps; settings become options of the right form."""
    monkeypatch.chdir(tmp_path)
    settings = {"instruction": "make it red", "regions": ["0-0.5: x"], "wrap": True, "scales": [1, 2], "size": 64}
    write_json(tmp_path / "config.json", config("python job.py", **settings, negative_prompt="", particles=3))
    save_image(Image.new("RGB", (4, 4)), tmp_path / "source.png")
    known = parameters(COMMANDS["edit"], "edit")
    assert command_of(run_of(".")) == "edit"
    made = repeated("edit", ["--config", "config.json"], known)
    assert made[-3:] == ["--", "source.png", "make it red"]
    assert "--wrap" in made
    assert "--size=64" in made
    assert "--particles=3" in made
    assert made[made.index("--region") + 1] == "0-0.5: x"
    assert made[made.index("--scales") + 1 :][:2] == ["1", "2"]
    assert not [token for token in made if token.startswith(("--negative-prompt", "--config"))]
    (tmp_path / "source.png").unlink()
    with pytest.raises(ValueError, match=r"the source of config\.json is not known: give it"):
        repeated("edit", ["--config", "config.json"], known)


def test_the_config_of_a_model_is_left_to_the_prior(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"act_fn": "silu"}')
    typed = ["x", "--config", "model"]
    assert repeated("image", typed, parameters(COMMANDS["image"], "image")) == typed
