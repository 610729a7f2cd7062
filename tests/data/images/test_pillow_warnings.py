import threading
import warnings

import pytest

from tintype.data.images.pillow_warnings import pillow_warnings_ignored


def warn_as_pillow() -> None:
    warnings.warn_explicit("something", UserWarning, "Image.py", 1, module="PIL.Image")


def test_warnings_of_pillow_are_ignored_inside_and_nowhere_else() -> None:
    before = list(warnings.filters)
    with pillow_warnings_ignored:
        warn_as_pillow()
        with pillow_warnings_ignored:
            warn_as_pillow()
        warn_as_pillow()
        with pytest.warns(UserWarning, match="other"):
            warnings.warn("other", stacklevel=1)
    assert warnings.filters == before
    with pytest.raises(UserWarning):
        warn_as_pillow()


def test_threads_that_leave_in_another_order_restore_the_filters() -> None:
    before = list(warnings.filters)
    has_left = threading.Event()
    entered = threading.Event()

    def stay() -> None:
        with pillow_warnings_ignored:
            entered.set()
            has_left.wait(10)
            warn_as_pillow()

    thread = threading.Thread(target=stay)
    with pillow_warnings_ignored:
        thread.start()
        entered.wait(10)
    has_left.set()
    thread.join()
    assert warnings.filters == before
