"""`python -m harness`: the command line where the package is not installed."""

from harness.cli import main

raise SystemExit(main())
