"""Numbers become text: terminal, Markdown, LaTeX, CSV, HTML, the page."""
