.PHONY: setup demo test test-browser lint docs constraints

READY := .venv/.ready

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x .venv/bin/python || python3 -m venv .venv
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[train,lora,video,nerf,scenes,bench,metrics,cluster,ui,test,quality]'
	touch $@

demo: $(READY)
	.venv/bin/scoredistill demo --out runs/demo

test: $(READY)
	.venv/bin/python -m pytest -n logical --dist worksteal

test-browser: $(READY)
	.venv/bin/python -m pytest -m browser tests/ui/test_browser.py

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/mypy

docs: $(READY)
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[docs]'
	.venv/bin/sphinx-build -q -W --keep-going docs docs/_build

constraints: $(READY)
	.venv/bin/python tools/constraints.py
