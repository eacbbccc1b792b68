# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Speaker notes of a presentation, which xberg leaves out. The door of python-pptx."""

from __future__ import annotations

import io
import zipfile

from knowledge.kinds import ParseFailed


def slide_notes(data: bytes) -> dict[int, str]:
    """The notes by slide number from 1; slides without any are left out.

    Raises:
        ParseFailed: it is no presentation that can be opened.
    """
    import pptx  # slow to load: only when there are slides
    from pptx.exc import PythonPptxError

    try:
        presentation = pptx.Presentation(io.BytesIO(data))
        notes: dict[int, str] = {}
        for number, slide in enumerate(presentation.slides, 1):
            frame = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
            if frame is not None and frame.text.strip():
                notes[number] = "\n\n".join(line.strip() for line in frame.text.split("\n") if line.strip())
        return notes
    except (PythonPptxError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ParseFailed("broken presentation") from error
