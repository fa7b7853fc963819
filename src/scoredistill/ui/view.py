"""What the page shows of runs, as HTML and as values of components. All text is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from urllib.parse import quote

from scoredistill.ui.desk import Desk
from scoredistill.ui.history import Run, Stage
from scoredistill.ui.jobs import ENDED, Job, Progress, State

FILE = "gradio_api/file="  # address of a file of the server
EMPTY = "<p class='sd-empty'>Fill in the form and press the button: the result appears here while it is made.</p>"
WORDS = {"rows": "network evaluations", "seconds": "s", "clip_sim": "CLIP similarity"}
STOPPED = "interrupted"  # how a command that is stopped says so
IMAGES = (".png", ".gif", ".jpg", ".webp", ".svg")


@dataclass(frozen=True)
class View:
    """What the page shows of the chosen runs.

    Attributes:
        headline: title, state and cost.
        progress: progress bar with the time left; "" if nothing runs.
        stage: images and videos.
        pair: an image before and after, files.
        model: file of a 3-D model.
        downloads: links to the files.
        command, python: how to repeat the runs.
        stops, resumes: whether there is something to stop or to continue.
        live: whether more is to come.
    """

    headline: str = ""
    progress: str = ""
    stage: str = EMPTY
    pair: tuple[str, str] | None = None
    model: str | None = None
    downloads: str = ""
    command: str = ""
    python: str = ""
    stops: bool = False
    resumes: bool = False
    live: bool = False


def view(desk: Desk, names: Sequence[str]) -> View:
    """The view of runs.

    Args:
        desk: the state of the app.
        names: of one run, or of several to compare; unknown ones are left out.
    """
    chosen = [(run, desk.job(name)) for name in names if (run := desk.run(name)) is not None]
    if not chosen:
        return View()
    jobs = [job for _, job in chosen if job is not None and job.state not in ENDED]
    live = bool(jobs) or any(job is None and run.stage is Stage.RUNNING for run, job in chosen)
    codes = [_codes(run, job) for run, job in chosen]
    common = View(
        progress="".join(_progress(desk, job) for job in jobs),
        command="\n".join(command for command, _ in codes if command),
        python="\n".join(python for _, python in codes if python),
        stops=bool(jobs),
        live=live,
    )
    if len(chosen) > 1:
        return replace(common, headline=_comparison(chosen), stage=_side_by_side(desk, chosen))
    run, job = chosen[0]
    pair = run.pair if run.result else None
    shown = [] if pair is None else [copy for each in pair if (copy := desk.display(each)) is not None]
    model = run.model if run.result else None
    return replace(
        common,
        headline=_headline(run, job),
        stage=_stage(desk, run, job, pair is not None),
        pair=(shown[0], shown[1]) if len(shown) == 2 else None,
        model=None if model is None else str(model.absolute()),
        downloads=_downloads(run) if run.config else "",
        resumes=desk.resumable(run.name),
    )


def address(path: Path) -> str:
    """The address of a file; it changes with the file."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return f"{FILE}{quote(path.absolute().as_posix())}?v={changed}"


def _codes(run: Run, job: Job | None) -> tuple[str, str]:
    """The command and the Python that repeat a run."""
    call = run.call if job is None else job.call
    if job is not None and call is not None:
        call = replace(call, resume=call.resume and job.state not in ENDED)
        return call.command(), call.python()
    return run.command, "" if call is None else call.python()


def _word(run: Run, job: Job | None) -> str:
    return run.stage.value if job is None else job.state.value


def _text(run: Run, job: Job | None) -> str:
    return escape(run.title if run.config or job is None else job.call.title)


def _badge(word: str) -> str:
    return f"<span class='sd-badge sd-{word}'>{word}</span>"


def _facts(run: Run, job: Job | None) -> list[str]:
    """Method, cost and score in a few words each, escaped."""
    method = run.method or str("" if job is None else job.call.values.get("method") or job.call.request.method)
    facts = [method] if method else []
    facts += [f"{value} {WORDS['rows']}" for value in [run.result.get("rows")] if isinstance(value, int)]
    facts += [f"{_clock(value)}" for value in [run.result.get("seconds")] if isinstance(value, (int, float))]
    score = run.result.get("clip_sim")
    scores = [value for value in (score if isinstance(score, list) else [score]) if isinstance(value, (int, float))]
    facts += [f"{WORDS['clip_sim']} {sum(scores) / len(scores):.0f}"] if scores else []
    return [escape(fact) for fact in facts]


def _headline(run: Run, job: Job | None) -> str:
    says = run.says if run.config or job is None else job.call.kind.says
    facts = " · ".join([escape(says), *_facts(run, job)])
    notes = [] if job is None else [each for each in job.messages() if not each.startswith(STOPPED)]
    if job is None and (verdict := run.result.get("verdict")):
        notes = [f"{verdict}."]
    failed = job is not None and job.state is State.FAILED
    said = "".join(
        f"<p class='{'sd-error' if failed and note is notes[-1] else 'sd-note'}'>{escape(_sentence(note))}</p>"
        for note in notes
    )
    if failed and not notes:
        said = "<p class='sd-error'>The run ended without a word, perhaps for want of memory.</p>"
    return f"<h2>{_text(run, job)}</h2><p>{_badge(_word(run, job))} {facts}</p>{said}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", ")", "?")) else ".")


def _comparison(chosen: Sequence[tuple[Run, Job | None]]) -> str:
    words = [_word(run, job) for run, job in chosen]
    titles = list(dict.fromkeys(_text(run, job) for run, job in chosen))
    done = words.count(State.FINISHED.value)
    state = State.FINISHED.value if done == len(words) else State.RUNNING.value
    state = state if done == len(words) or {"running", "waiting"} & set(words) else State.STOPPED.value
    return f"<h2>{', '.join(titles[:3])}</h2><p>{_badge(state)} {done} of {len(words)} runs are finished</p>"


def _progress(desk: Desk, job: Job) -> str:
    """The progress bar of a job."""
    what = escape(str(job.call.values.get("method") or job.call.request.method))
    if job.state is State.QUEUED:
        ahead = desk.queue.ahead(job)
        return f"<p class='sd-step'>{what}: waiting for {ahead} other run{'s' if ahead != 1 else ''}.</p>"
    progress = job.progress()
    percent = 0 if progress is None else round(100 * progress.fraction)
    value = f" aria-valuenow='{percent}'" if progress is not None else ""
    kind = "" if progress is not None else " sd-unknown"
    return (
        f"<div class='sd-bar{kind}' role='progressbar' aria-label='Progress of {what}' aria-valuemin='0' "
        f"aria-valuemax='100'{value}><div style='width:{percent}%'></div></div>"
        f"<p class='sd-step'>{_step(progress, job.seconds)}</p>"
    )


def _step(progress: Progress | None, seconds: float) -> str:
    """Where a run is, in words."""
    if progress is None:
        return f"Loading the model ({_clock(seconds)})"
    if progress.done >= progress.of:
        return f"{escape(progress.what)}: all {progress.of} done; writing the results ({_clock(seconds)})"
    left = "" if progress.left is None else f", about {_clock(max(1.0, progress.left))} left"
    return f"{escape(progress.what)}: {progress.done} of {progress.of}{left} ({_clock(seconds)} so far)"


def _clock(seconds: float) -> str:
    """A time in words."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _image(source: str, alt: str, caption: str = "") -> str:
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure><img src='{escape(source)}' alt='{alt}' loading='lazy'>{below}</figure>"


def _video(path: Path, label: str) -> str:
    """A video that repeats itself, or an animation, with controls where the browser has them."""
    if path.suffix in IMAGES:
        return _image(address(path), label, label)
    return (
        f"<figure><video src='{escape(address(path))}' controls loop muted autoplay playsinline "
        f"aria-label='{label}'></video><figcaption>{label}</figcaption></figure>"
    )


def _stage(desk: Desk, run: Run, job: Job | None, paired: bool) -> str:
    """Images and videos of one run."""
    text = _text(run, job)
    if not run.result:
        return _so_far(run, job, text)
    parts = []
    if not paired:
        images = run.images
        for index, path in enumerate(images):
            number = f" ({index + 1} of {len(images)})" if len(images) > 1 else ""
            shown = desk.display(path)
            parts += [_image(address(Path(shown)), f"{text}{number}")] if shown else []
    if (video := run.video) is not None:
        source = None if job is None else job.call.source
        inside = source is not None and desk.root.resolve() in source.resolve().parents
        if source is not None and inside and source.suffix in (".mp4", ".webm"):
            parts.append(_video(source, "Source"))
        parts.append(_video(video, "Edited" if video.name.startswith("edited") else "All sides"))
    if not parts and not paired and run.model is None and (preview := run.image) is not None:
        parts.append(_image(address(preview), text))
    hint = "<p class='sd-hint'>Before and after: move the divider.</p>" if paired else ""
    hint = "<p class='sd-hint'>Drag the object to turn it.</p>" if run.model is not None else hint
    made = run.path / "video.gif"
    how = ""
    if made.is_file():
        how = f"<details><summary>How it came about</summary>{_image(address(made), 'The optimization')}</details>"
    return (f"<div class='sd-images'>{''.join(parts)}</div>" if parts else "") + how + hint


def _so_far(run: Run, job: Job | None, text: str) -> str:
    """The preview of an unfinished run."""
    preview = run.image if run.config else None
    if preview is not None:
        return f"<div class='sd-images'>{_image(address(preview), f'{text}, so far', 'So far')}</div>"
    if job is None or job.state not in ENDED:
        return "<p class='sd-empty'>The first preview appears here after some steps.</p>"
    return "<p class='sd-empty'>It ended before there was anything to show.</p>"


def _side_by_side(desk: Desk, chosen: Sequence[tuple[Run, Job | None]]) -> str:
    """One figure per run, with its method, state and cost."""
    figures = []
    same = len({_text(run, job) for run, job in chosen}) == 1
    for run, job in chosen:
        facts = _facts(run, job)
        images = run.images if run.result else []
        title = "" if same else f"{_text(run, job)}<br>"
        name = facts[0] if facts else ""
        caption = f"{title}<b>{name}</b> {_badge(_word(run, job))}<br>{' · '.join(facts[1:])}"
        path = images[0] if images else run.image if run.config else None
        shown = None if path is None else desk.display(path)
        alt = f"{_text(run, job)} by {name or 'this run'}"
        shown = (
            "<div class='sd-blank'></div>" if shown is None
            else f"<img src='{escape(address(Path(shown)))}' alt='{alt}' loading='lazy'>"
        )  # fmt: skip
        figures.append(f"<figure>{shown}<figcaption>{caption}</figcaption></figure>")
    return f"<div class='sd-images sd-many'>{''.join(figures)}</div>"


def _downloads(run: Run) -> str:
    """Links to the files of a run; its report opens in a new tab."""
    links = []
    for path in run.downloads:
        how = "target='_blank' rel='noopener'" if path.suffix == ".html" else "download"
        label = f"{escape(path.name)} <small>{_size(path)}</small>"
        links.append(f"<li><a href='{escape(address(path))}' {how}>{label}</a></li>")
    place = escape(run.path.as_posix())
    return f"<p>All files are in <code>{place}</code>.</p><ul class='sd-files'>{''.join(links)}</ul>"


def _size(path: Path) -> str:
    try:
        size = path.stat().st_size
    except OSError:
        return ""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"


def changes(before: Mapping[str, object], now: Mapping[str, object]) -> dict[str, object]:
    """The entries that are new or have changed."""
    return {name: value for name, value in now.items() if name not in before or before[name] != value}
