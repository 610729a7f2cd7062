from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.data.sources.captions import MAX_CAPTION_BYTES, clean_caption, decode_text, parse_captions
from tintype.data.sources.files import FileError, read_file


def read_captions(path: Path) -> tuple[str, ...]:
    return parse_captions(decode_text(read_file(path, MAX_CAPTION_BYTES)))


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        ("\ufeffa cat", "a cat"),
        ("a\r\ncat\t on  a mat ", "a cat on a mat"),
        ("a\x00cat\x1b[31m", "a cat [31m"),
        ("a \ud800cat", "a cat"),
        ("cafe\u0301", "caf\u00e9"),
        ("\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c"),  # the joiner within an emoji means something
    ],
)
def test_clean_known_answers(raw: str, want: str) -> None:
    assert clean_caption(raw) == want


@given(st.text(alphabet=st.characters()))
def test_clean_gives_one_encodable_line_and_is_idempotent(raw: str) -> None:
    text = clean_caption(raw)
    assert text.encode("utf-8").decode("utf-8") == text
    assert len(text.splitlines()) <= 1
    assert clean_caption(text) == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_are_recognised_by_their_mark(encoding: str) -> None:
    assert decode_text("ein Käfer".encode(encoding)) == "ein Käfer"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251"])
def test_other_encodings_are_refused_not_guessed(encoding: str) -> None:
    with pytest.raises(FileError, match="UTF-8"):
        decode_text({"latin-1": "ein Käfer", "cp1251": "жук"}[encoding].encode(encoding))


def test_each_line_of_a_text_file_is_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a cat\r\n\r\n  a small cat \na cat\n")
    assert read_captions(path) == ("a cat", "a small cat")


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\x00\x00"])
def test_an_empty_caption_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(FileError, match="empty"):
        read_captions(path)


def test_a_long_caption_is_kept_and_a_huge_file_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 50_000)
    assert read_captions(path) == ("x" * 50_000,)
    path.write_text("x" * 2_000_000)
    with pytest.raises(FileError, match="larger than 1 MB"):
        read_captions(path)


def test_a_named_encoding_is_of_text_that_is_not_utf8() -> None:
    text = "Zo\u00eb\u2019s caf\u00e9"
    assert decode_text(text.encode("cp1252"), "cp1252") == text
    assert decode_text(text.encode("utf-8"), "cp1252") == text
    for encoding in ("utf-16-le", "utf-32-be", "utf-7", "shift_jis"):
        for caption in ("a red cat", "\u732b\u3068\u72ac"):
            assert decode_text(caption.encode(encoding), encoding) == caption
    with pytest.raises(FileError, match="ascii"):
        decode_text(b"\xe9", "ascii")
