"""The check report as one HTML page, with thumbnails of the worst cases; it needs no network and no script."""

from __future__ import annotations

import base64
import io

from tintype.data.check.report import Report, counted, examples, num_files, pictures_to_review
from tintype.data.images.decode import decode_image
from tintype.data.sources.files import FileError, ImageSource
from tintype.printable import html_text

SIDE = 112  # pixels, the longer side of a thumbnail
MAX_THUMBNAILS = 12  # thumbnails in a section
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; color: #222 }
h1 { font-size: 1.3em } h2 { font-size: 1.05em; margin-top: 2em }
table { border-collapse: collapse } td { padding: .15em .8em .15em 0; vertical-align: top }
td.number { text-align: right } .bar { background: #579; height: .8em; display: inline-block }
figure { display: inline-block; margin: 0 .8em .8em 0; width: 112px; vertical-align: top }
figure div { width: 112px; height: 112px; background: #eee; display: flex; align-items: center;
  justify-content: center; color: #888 } figure img { max-width: 112px; max-height: 112px }
figcaption { font-size: .75em; overflow-wrap: anywhere }
"""


def to_html(report: Report) -> str:
    """The report as a page. It reads the pictures that it shows; unreadable ones become empty frames."""
    parts = [f"<h1>{html_text(report.verdict())}</h1>"]
    if report.notes:
        parts.append("<ul>" + "".join(f"<li>{html_text(note)}</li>" for note in report.notes) + "</ul>")
    if report.problems:
        rows = (
            f'<tr><td class="number">{num_files(problems):,}</td><td>{"left out" if left_out else "remark"}</td>'
            f"<td>{html_text(reason)}</td><td>{html_text(examples(problems))}</td></tr>"
            for left_out, reason, problems in report.groups()
        )
        parts.append("<h2>Problems</h2><table>" + "".join(rows) + "</table>")
    for histogram in report.histograms:
        most = max(number for _, number in histogram.rows)
        rows = (
            f'<tr><td class="number">{html_text(label)}</td><td class="number">{number:,}</td>'
            f'<td><span class="bar" style="width:{round(240 * number / most)}px"></span></td></tr>'
            for label, number in histogram.rows
        )
        parts.append(f"<h2>{html_text(histogram.title)}</h2><table>{''.join(rows)}</table>")
    if report.read:
        rows = (
            f"<tr><td>{html_text(caption.key)}</td><td>{html_text(caption.line())}</td></tr>" for caption in report.read
        )
        title = report.read_title
        parts.append(f"<h2>{html_text(title[:1].upper() + title[1:])}</h2><table>{''.join(rows)}</table>")
    sections = list(pictures_to_review(report, MAX_THUMBNAILS))
    wanted = {key for _, pictures in sections for key, _ in pictures}
    captions = {pair.key: pair.captions[0] for pair in report.pairs if pair.key in wanted}
    for title, pictures in sections:
        figures = "".join(_figure(key, source, captions.get(key, "")) for key, source in pictures)
        parts.append(f"<h2>{html_text(title[:1].upper() + title[1:])}</h2><div>{figures}</div>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html_text(counted(report.num_left_out, 'picture'))} left out of {html_text(report.data)}</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _figure(key: str, source: ImageSource | None, caption: str) -> str:
    thumbnail = _thumbnail(source) if source is not None else ""
    picture = f'<img alt="" src="data:image/png;base64,{thumbnail}">' if thumbnail else "cannot be read"
    caption_line = f"<br>{html_text(caption[:120])}" if caption else ""
    return f"<figure><div>{picture}</div><figcaption>{html_text(key)}{caption_line}</figcaption></figure>"


def _thumbnail(source: ImageSource) -> str:
    try:
        picture = decode_image(source.read(), SIDE).picture
    except (FileError, MemoryError):
        return ""
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
