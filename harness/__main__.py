"""`python -m harness`: the command line where the package is not installed."""

from harness.cli.app import main

raise SystemExit(main())
