"""Hashes by which caches on disk are found: they must not change from version to version."""

from __future__ import annotations

from tintype.data.cache.fingerprints import source_fingerprint
from tintype.data.images.decode import preprocess_for
from tintype.data.sources.exclude import Exclusions
from tintype.data.sources.files import LocalFile
from tintype.data.sources.pairs import Pair


def test_a_cache_of_an_earlier_version_is_still_found():
    pairs = [Pair("a", LocalFile("/data", "a", b"x" * 24), ("a caption",))]
    stamp = source_fingerprint(pairs, preprocess_for(32), "words", Exclusions())
    assert stamp == "c5beda8ce6d38897d7b5a6dffe5bf73d3e6f45403e71fb890b92bae655f3943f"
