"""How the report looks, by light and by dark: the text of ``report.css``. Refuses to know what is in it."""

from pathlib import Path

STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
