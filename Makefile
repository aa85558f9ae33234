# Each target works in the Python environment that is active; the README's second command makes one.
# `lock` needs uv.
.PHONY: check test slow docs lock

check:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest -n 2 --durations=15

slow:
	pytest -m slow -n 2 --dist loadfile --durations=15

# Figures and tables of the README and of docs, from records; a test says when that is due.
docs:
	python tests/readme_blocks.py

# The newest that pyproject.toml admits, with the torch that the machines of CI hold.
lock:
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 \
	  --upgrade --upgrade-package torch==2.14.1 --upgrade-package torchvision==0.29.1 \
	  --no-annotate --custom-compile-command "make lock" --output-file constraints.txt
